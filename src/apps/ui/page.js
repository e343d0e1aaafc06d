// Polls the server every second, and sends it the user's actions.

import { $, make, tell, failureText, kindOf, drawPhase, drawMap, drawChart, drawCalls, drawVerify, drawLab } from "./show.js";

const EVERY = 1000;
const KEPT = 3500;
const token = location.hash.slice(1);
let calls = [];
let state = null;

async function ask(path, body) {
  const options = { headers: { Authorization: `Bearer ${token}` }, cache: "no-store" };
  if (body !== undefined) Object.assign(options, { method: "POST", body: JSON.stringify(body) });
  let response;
  try {
    response = await fetch(`/api/${path}`, options);
  } catch {
    throw { error: "kindmesh ui does not respond anymore", evidence: [], hint: "start it again, and open the URL that it prints" };
  }
  const answer = await response.json().catch(() => ({ error: `${response.status}`, evidence: [], hint: null }));
  if (!response.ok) throw answer;
  return answer;
}

// ---- switches

const SWITCHES = [
  { id: "timeout", name: "Timeout", does: "a call that takes longer than 5 s fails with 504" },
  { id: "breaker", name: "Circuit breaker", does: "producers with consecutive errors are ejected" },
  { id: "strict", name: "Strict", does: "producers accept only mutual TLS" },
  { id: "link", name: "Link", does: "off: cut between the clusters for an hour; on: ends all faults" },
];
const pending = new Set();

function isOn(id) {
  const topology = state?.topology;
  if (!topology) return false;
  if (id === "link") return !topology.clusters.some((cluster) => cluster.linkCut);
  return (topology.policies.find((policy) => policy.policy === id)?.appliedIn.length ?? 0) > 0;
}

function drawSwitches() {
  for (const { id } of SWITCHES) {
    const button = $(`switch-${id}`);
    button.setAttribute("aria-checked", isOn(id));
    button.setAttribute("aria-disabled", pending.has(id) || !state?.topology);
  }
}

async function flip(id) {
  if (pending.has(id) || !state?.topology) return;
  const on = !isOn(id);
  pending.add(id);
  drawSwitches();
  try {
    await (id === "link" ? ask("link", { cut: !on }) : ask("policy", { policy: id, on }));
    tell($("switch-trouble"), "");
    // The change is visible after the next refresh.
    for (let look = 0; look < 20 && isOn(id) !== on; look++) await update();
  } catch (failure) {
    tell($("switch-trouble"), failureText(failure));
  }
  pending.delete(id);
  drawSwitches();
}

function makeSwitches() {
  $("switches").append(...SWITCHES.map(({ id, name, does }) => {
    const button = make("button", { type: "button", role: "switch", id: `switch-${id}`, "aria-checked": "false", "aria-labelledby": `name-${id}` });
    button.addEventListener("click", () => flip(id));
    return make("li", {}, make("span", { id: `name-${id}` }, name, make("small", {}, does)), button);
  }));
}

// ---- calls

const field = (id) => Number($(id).value);
let sending = false;

async function send(event) {
  event.preventDefault();
  if (sending) return;
  sending = true;
  $("send").setAttribute("aria-disabled", "true");
  try {
    const sent = await ask("call", { delay: field("delay"), status: field("status"), payload: $("payload").value, count: field("count") });
    const last = sent.calls[sent.calls.length - 1];
    const by = last.answeredBy ? `from ${last.answeredBy}` : "by nobody";
    const many = sent.calls.length > 1 ? `${sent.calls.length} calls, the last: ` : "";
    tell($("answer"), `${many}${last.status || "no answer"} ${by} after ${last.millis} ms${last.reason ? `\n${last.reason}` : ""}`, kindOf(last.status));
  } catch (failure) {
    tell($("answer"), failureText(failure));
  }
  sending = false;
  $("send").setAttribute("aria-disabled", "false");
}

let turning = 0;
function turn() {
  const rate = field("rate");
  $("rate-told").textContent = rate ? `${rate} a second` : "off";
  clearTimeout(turning);
  turning = setTimeout(async () => {
    try {
      await ask("steady", { rate, delay: field("delay"), status: field("status") });
    } catch (failure) {
      tell($("answer"), failureText(failure));
    }
    turning = 0;
  }, 150);
}

function drawSteady() {
  const { steady, counts } = state.calls;
  const rate = steady?.rate ?? 0;
  if (!turning && document.activeElement !== $("rate")) $("rate").value = rate;
  if (!turning) $("rate-told").textContent = rate ? `${rate} a second` : "off";
  const late = counts.late ? `, ${counts.late} not sent: too many in flight` : "";
  $("counts").textContent = `Sent: ${counts.sent}, completed: ${counts.ended}${late}`;
}

// ---- everything, every second

async function update() {
  try {
    const after = calls.length ? calls[calls.length - 1].number : 0;
    const [now, news] = await Promise.all([ask("state"), ask(`calls?after=${after}`)]);
    state = now;
    calls = calls.concat(news.calls.filter((call) => call.number > after)).slice(-KEPT);
    tell($("trouble"), state.topologyError ? `The state could not be refreshed: ${state.topologyError}` : "");
    $("environment").textContent = state.environment;
    document.title = `${state.environment} · kindmesh`;
    drawPhase(state);
    drawMap(state);
    const faults = state.topology?.faults ?? [];
    tell($("faults"), faults.length ? `Faults that you asked for: ${faults.join("; ")}` : "", "");
    drawSwitches();
    drawSteady();
    drawCalls(calls, state.from);
    drawVerify(state.verify);
    drawLab(state.lab);
  } catch (failure) {
    if (!failure.error) throw failure;
    tell($("trouble"), failureText(failure));
  }
  drawChart(calls, state?.from);
}

function press(id, act) {
  $(id).addEventListener("click", async () => {
    if ($(id).getAttribute("aria-disabled") === "true") return;
    await act();
    await update();
  });
}

const lab = (action, number) => async () => {
  try {
    await ask("lab", { action, ...(number ? { number: number() } : {}) });
  } catch (failure) {
    tell($("lab-trouble"), failureText(failure));
  }
};

// Another URL, another token.
addEventListener("hashchange", () => location.reload());
makeSwitches();
$("call").addEventListener("submit", send);
$("rate").addEventListener("input", turn);
for (const id of ["delay", "status"]) $(id).addEventListener("change", () => { if (field("rate")) turn(); });
press("verify", () => ask("verify", {}).catch((failure) => tell($("verify-trouble"), failureText(failure))));
press("lab-start", lab("start", () => field("exercise")));
for (const action of ["check", "hint", "solve", "reset"]) press(`lab-${action}`, lab(action));

async function forever() {
  await update();
  setTimeout(forever, EVERY);
}
forever();
