// What is asked of the server before anything else, and how it is said that something is wrong
const $ = id => document.getElementById(id);
let token = sessionStorage.getItem("token") ?? "",
  models = [];

const GONE = "The server does not answer. Is gan-denoise serve still running?";
// A header holds bytes: those of UTF-8, as curl would send them
const bearer = () => "Bearer " + String.fromCharCode(...new TextEncoder().encode(token));
const authorized = () => (token ? { authorization: bearer() } : {});
// What an answer says is wrong; it may be of a proxy before the server, which speaks no JSON
function reason(status, text) {
  try {
    const { error } = JSON.parse(text);
    if (error) return error;
  } catch {} // told below
  const none = "the server does not answer it",
    words = { 413: "the file is too large for it", 502: none, 503: none, 504: "it took too long" };
  return `A proxy before the server answers ${status}: ${words[status] ?? "that is all it says"}.`;
}
function complain(text) {
  $("problem").textContent = text;
  $("problem").hidden = !text;
}
async function ask(path) {
  let response;
  try {
    response = await fetch(path, { headers: authorized() });
  } catch {
    complain(GONE);
    throw new Error(GONE);
  }
  if (response.ok) return response.json();
  if (response.status === 401) refused();
  else complain(reason(response.status, await response.text()));
  throw new Error("refused");
}
function refused() {
  $("gate").hidden = false;
  complain(token && "The token is wrong.");
}
async function begin() {
  models = await ask("/v1/models");
  $("gate").hidden = true;
  complain("");
  $("model").replaceChildren(...models.map(({ name }) => new Option(name)));
  $("models").hidden = models.length < 2;
  showModel();
}
const chosen = () => models.find(({ name }) => name === $("model").value);
function showModel() {
  $("band").textContent = chosen().sample_rate / 2000;
  $("strengths").hidden = !chosen().takes_strength;
  $("live").hidden = $("live").previousElementSibling.hidden = chosen().latency === null;
}
$("model").addEventListener("change", showModel);
$("strength").addEventListener("input", () => {
  const names = { 0: "gentle", 0.5: "balanced", 1: "strong" },
    told = $("strength").value;
  $("told").textContent = names[+told] ?? told;
});
document.querySelector("#gate form").addEventListener("submit", event => {
  event.preventDefault();
  sessionStorage.setItem("token", (token = $("token").value.trim()));
  begin().catch(() => {});
});
const uuid = () =>
  [...crypto.getRandomValues(new Uint8Array(16))]
    .map(byte => byte.toString(16).padStart(2, "0"))
    .join("");
