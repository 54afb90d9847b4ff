// The life of a microphone: idle, asking (the browser asks its user), on, and idle again
class Session {
  // button: starts and ends it, and shows its state by `words`. begin(ear): opens the ear; end(ear):
  // what becomes of what was heard, when it was on
  constructor(button, words, { begin, end }) {
    Object.assign(this, { button, words, begin, end, ear: null });
    this.show("idle");
    button.addEventListener("click", () => (this.ear ? this.stop() : this.start()));
  }
  show(state) {
    this.state = this.button.dataset.state = state;
    this.button.textContent = this.words[state];
    this.button.classList.toggle("on", state === "on");
  }
  async start() {
    complain("");
    const ear = (this.ear = new Ear(why => this.ear === ear && this.stop(why)));
    this.show("asking");
    try {
      await this.begin(ear);
      if (this.ear === ear) this.show("on");
    } catch (error) {
      if (this.ear === ear) this.stop(error.message); // else nobody waits for it any more
    }
  }
  stop(why = "") {
    const { ear, state } = this;
    if (!ear) return;
    this.ear = null;
    ear.close();
    this.show("idle");
    complain(why);
    this.end(ear, state === "on");
  }
}
