"""What a result rests on, by content: its inputs, its code, its settings and its speakers."""
