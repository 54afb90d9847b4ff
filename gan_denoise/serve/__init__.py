"""A model as an HTTP and WebSocket service on one's own machine, with a page to try it.

    app.py, routes.py                      what is answered
    command.py    gan-denoise serve        server.py   the process that listens, and its end
    connections.py   what one client may cost the others
    guard.py      who may ask, and what every answer carries
    batching.py   live streams, one step of the network for all of them
    live.py       the WebSocket            files.py    files, in worker processes
    uploads.py    bodies into private files that are gone afterwards
    limits.py     what is refused          metrics.py  what Prometheus reads
    log.py        a line for each request that is refused, or fails
    state.py      what routes share        busy.py     whether there is room for another stream
    web/                                   the page, which page.py puts together

Needs the extra `serve`; limits.py and log.py alone do not, so that the command line can tell its
options without it.
"""
