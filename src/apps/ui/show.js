// Draws the server's state. The page holds no other state, and text is never markup.

export const $ = (id) => document.getElementById(id);

export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== null && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

const drawn = new Map();
// Redraws a part only when its content has changed, so that focus and scroll position stay.
export function redraw(element, shown, draw) {
  const text = JSON.stringify(shown);
  if (drawn.get(element) === text) return;
  drawn.set(element, text);
  element.replaceChildren(...draw().filter(Boolean));
}

export function tell(element, text, kind = "bad") {
  element.hidden = !text;
  if (!text) return;
  element.className = `note ${kind}`;
  if (element.textContent !== text) element.textContent = text;
}

export const failureText = (failure) =>
  failure && [failure.error, ...failure.evidence, failure.hint && `→ ${failure.hint}`].filter(Boolean).join("\n");

export const kindOf = (status) => (status === 0 || status >= 500 ? "bad" : status >= 400 ? "warn" : "good");
const number = (value) => (value >= 100 ? value.toFixed(0) : value.toFixed(1));
const millis = (value) => (value === null ? "–" : value >= 1000 ? `${(value / 1000).toFixed(1)} s` : `${value < 10 ? value.toFixed(1) : value.toFixed(0)} ms`);

// A long name that may wrap at its slashes.
const broken = (name) => name.split(/(?<=\/)/).flatMap((part) => [part, make("wbr")]);

// ---- the clusters and the calls between them

const PHASES = { ready: "good", healing: "warn", degraded: "bad", partial: "bad", paused: "warn", stopped: "warn", absent: "bad" };
export function drawPhase(state) {
  const phase = state.topology?.phase ?? "looking";
  $("phase").textContent = phase;
  $("phase").className = `badge ${PHASES[phase] ?? ""}`;
}

const LAYERS = { nodes: "nodes", link: "link", api: "API server", istiod: "istiod", remoteClusters: "remote clusters", workloads: "samples" };
function clusterCard(cluster, state, here) {
  const item = (ok, title, detail) =>
    make("li", { class: ok ? "good" : "bad" }, make("span", { class: "dot" }), make("span", {}, make("b", {}, title), detail ? ` ${detail}` : ""));
  const nodes = cluster.nodes.map((node) => item(node.state === "running", node.name, node.state));
  const layers = cluster.layers.filter((layer) => layer.layer !== "nodes")
    .map((layer) => item(layer.ok, LAYERS[layer.layer] ?? layer.layer, layer.detail));
  const services = (cluster.services ?? []).filter((service) => service.name.startsWith("sample-")).map((service) =>
    item(true, `Service ${service.name}`, service.pods === 1 ? "1 pod" : service.pods ? `${service.pods} pods` : "no pods: a stub"));
  if (cluster.services && !cluster.services.some((service) => service.name === "sample-producer")) {
    services.push(make("li", { class: "warn" }, make("span", { class: "dot" }), make("span", {}, make("b", {}, "no Service sample-producer"))));
  }
  const roles = [cluster.caller && "caller", cluster.producer && "producers"].filter(Boolean).join(", ");
  const down = cluster.nodes.some((node) => node.state !== "running");
  return make("article", { class: `cluster ${down ? "bad" : ""}`, id: `cluster-${cluster.name}` },
    make("p", { class: "name" }, cluster.name, " ", make("small", {}, [cluster.region, cluster.zone, cluster.network && `network ${cluster.network}`].filter(Boolean).join(", "))),
    roles && make("div", { class: "pod" }, make("b", {}, roles), here ? ` · ${number(here.rate)}/s answered` : ""),
    make("ul", {}, ...nodes, ...layers, ...services));
}

// Calls to another network have the gateway as their only endpoint.
function way(edge, state, cut, gateway) {
  const traffic = state.traffic;
  const last = state.calls.lastAnswered;
  const errors = traffic?.errors ?? 0;
  const open = edge.endpoints > 0 && edge.healthy === 0;
  const kind = cut || open || errors > 0 ? "bad" : (traffic?.rate ?? 0) > 0 ? "good" : "";
  const figure = (name, value, bad) => [make("dt", {}, name), make("dd", { class: bad ? "bad" : null }, value)];
  const told = traffic === null ? (state.trafficError ?? "querying the caller’s proxy")
    : open ? `circuit open: ${gateway ? "the gateway" : "every producer"} is ejected`
    : edge.endpoints === 0 ? "the caller’s proxy has no endpoints there"
    : gateway ? "through the gateway"
    : `${edge.healthy} of ${edge.endpoints} producers receive calls`;
  return make("div", { class: `way ${kind} ${(traffic?.rate ?? 0) > 0 ? "live" : ""}`, id: `way-${edge.cluster}` },
    make("div", {}, make("span", { class: "big", id: "rate-seen" }, traffic ? number(traffic.rate) : "–"), " calls/s"),
    make("dl", { class: "figures" }, ...figure("errors/s", traffic ? number(errors) : "–", errors > 0),
      ...figure("p50", millis(traffic?.p50 ?? null)), ...figure("p99", millis(traffic?.p99 ?? null))),
    make("div", { class: "wire" }, make("i")),
    make("p", {}, cut ? "the link is disabled" : told),
    last && make("p", {}, ...(last.identity ? ["mTLS from ", ...broken(last.identity)] : ["plain text: the producer receives no caller identity"])),
    !last && traffic && traffic.handshakes > 0 ? make("p", {}, "mTLS") : null);
}

export function drawMap(state) {
  const topology = state.topology;
  if (!topology) return;
  const edges = state.traffic?.edges ?? [];
  const shown = [topology.clusters, state.traffic, state.trafficError, state.calls.lastAnswered?.identity];
  redraw($("map"), shown, () => {
    const near = topology.clusters.filter((cluster) => cluster.name === state.from);
    const far = topology.clusters.filter((cluster) => cluster.name !== state.from);
    const edgeTo = (cluster) => edges.find((edge) => edge.cluster === cluster.name);
    const none = (cluster) => ({ cluster: cluster.name, rate: 0, errors: 0, endpoints: 0, healthy: 0 });
    const cut = (cluster) => [cluster, ...near].some((one) => one.linkCut);
    const apart = (cluster) => near.some((one) => one.network !== cluster.network);
    const producers = far.filter((cluster) => cluster.producer || edgeTo(cluster));
    return [
      make("div", { class: "stack" }, ...near.map((cluster) => clusterCard(cluster, state, edgeTo(cluster)))),
      make("div", { class: "stack" }, ...producers.map((cluster) => way(edgeTo(cluster) ?? none(cluster), state, cut(cluster), apart(cluster)))),
      make("div", { class: "stack" }, ...far.map((cluster) => clusterCard(cluster, state))),
    ];
  });
}

// ---- the calls of the last minute

const MINUTE = 60000;
const LINES = [1, 10, 100, 1000, 10000];
export function drawChart(calls, from) {
  const canvas = $("chart");
  const scale = window.devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  if (canvas.width !== Math.round(width * scale)) canvas.width = Math.round(width * scale);
  if (canvas.height !== Math.round(height * scale)) canvas.height = Math.round(height * scale);
  const pen = canvas.getContext("2d");
  pen.setTransform(scale, 0, 0, scale, 0, 0);
  pen.clearRect(0, 0, width, height);
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(`--${name}`).trim();
  const [left, right, top, bottom] = [54, 8, 8, 22];
  const now = Date.now();
  const x = (at) => left + (1 - (now - at) / MINUTE) * (width - left - right);
  const y = (ms) => top + (1 - Math.log10(Math.min(Math.max(ms, 1), 30000)) / Math.log10(30000)) * (height - top - bottom);
  pen.font = `12px ${style.fontFamily || "sans-serif"}`;
  pen.fillStyle = colour("soft");
  pen.strokeStyle = colour("line");
  pen.textBaseline = "middle";
  for (const line of LINES) {
    pen.beginPath(); pen.moveTo(left, y(line)); pen.lineTo(width - right, y(line)); pen.stroke();
    pen.textAlign = "right";
    pen.fillText(line >= 1000 ? `${line / 1000} s` : `${line} ms`, left - 6, y(line));
  }
  pen.textAlign = "center";
  for (const ago of [60, 45, 30, 15, 0]) {
    pen.fillText(ago ? `−${ago} s` : "now", Math.min(Math.max(x(now - ago * 1000), left + 14), width - 16), height - 8);
  }
  for (const call of calls) {
    if (now - call.at > MINUTE) continue;
    const [cx, cy] = [x(call.at), y(call.millis)];
    pen.fillStyle = pen.strokeStyle = colour(kindOf(call.status));
    pen.beginPath();
    if (call.answeredBy === null) {
      pen.lineWidth = 2;
      pen.moveTo(cx - 3.5, cy - 3.5); pen.lineTo(cx + 3.5, cy + 3.5); pen.moveTo(cx + 3.5, cy - 3.5); pen.lineTo(cx - 3.5, cy + 3.5);
      pen.stroke();
      pen.lineWidth = 1;
    } else if (call.answeredBy === from) {
      pen.rect(cx - 3, cy - 3, 6, 6); pen.fill();
    } else {
      pen.arc(cx, cy, 3.2, 0, 7); pen.fill();
    }
  }
}

export function drawCalls(calls, from) {
  const recent = calls.filter((call) => Date.now() - call.at <= MINUTE);
  const counts = new Map();
  for (const call of recent) {
    const sign = call.answeredBy === null ? "×" : call.answeredBy === from ? "■" : "●";
    const key = `${sign} ${call.status || "no answer"} ${call.answeredBy ? `in ${call.answeredBy}` : "by nobody"}`;
    counts.set(key, [(counts.get(key)?.[0] ?? 0) + 1, kindOf(call.status)]);
  }
  const entries = [...counts].sort();
  redraw($("legend"), entries, () => entries.length === 0 ? ["None yet."] : entries.map(([key, [count, kind]]) =>
    make("span", { class: kind }, make("b", {}, key), ` ${count}`)));
  const last = calls.slice(-8).reverse();
  redraw($("last").tBodies[0], last, () => last.map((call) => make("tr", { class: kindOf(call.status) },
    make("td", {}, call.status ? `${call.status}` : "–"), make("td", {}, millis(call.millis)),
    make("td", {}, call.answeredBy ?? "nobody"), make("td", {}, call.reason ?? ""))));
}

// ---- verify

const SIGNS = { passed: ["good", "holds"], failed: ["bad", "fails"], skipped: ["warn", "undecided"] };
export function drawVerify(verify) {
  const busy = verify.running;
  $("verify").setAttribute("aria-disabled", busy);
  const failed = verify.checks.filter((check) => check.status === "failed").length;
  $("verify-told").textContent = busy ? `${verify.checks.length} of ${verify.of}` :
    verify.checks.length ? `${verify.checks.length - failed} of ${verify.checks.length} hold` : "";
  tell($("verify-trouble"), failureText(verify.failure));
  const list = $("checks");
  const wanted = [...verify.checks, ...verify.trying.map((id) => ({ id, claim: "…", status: "trying", evidence: [] }))];
  const ids = new Set(wanted.map((check) => `check-${check.id}`));
  for (const old of [...list.children]) if (!ids.has(old.id)) old.remove();
  for (const check of wanted) {
    let item = $(`check-${check.id}`);
    if (!item) { item = make("li", { id: `check-${check.id}` }); list.append(item); }
    const open = item.querySelector("details")?.open ?? false;
    redraw(item, check, () => {
      const [kind, word] = SIGNS[check.status] ?? ["", "trying"];
      const evidence = [...check.evidence, check.hint && `→ ${check.hint}`].filter(Boolean);
      const details = make("details", { class: kind },
        make("summary", {}, make("span", { class: "dot" }), make("span", { class: "mono" }, check.id),
          make("span", { class: "claim" }, check.claim), make("span", { class: "told" }, word)),
        make("ul", {}, ...evidence.map((line) => make("li", {}, line))));
      details.open = open || check.status === "failed";
      return [details];
    });
  }
}

// ---- exercises

// The subset of Markdown that the pages use.
function markdown(text) {
  const inline = (line) => line.split(/(`[^`]+`|\*[^*]+\*)/).filter(Boolean).map((part) =>
    part.startsWith("`") ? make("code", {}, part.slice(1, -1)) : part.startsWith("*") ? make("em", {}, part.slice(1, -1)) : part);
  const blocks = [];
  let list = null, item = null, paragraph = null, code = null;
  for (const line of text.split("\n")) {
    const [, mark, rest] = line.match(/^(\d+\.|-) (.*)/) ?? [];
    if (code && (line.startsWith("    ") || line === "")) { code.textContent += `${line.replace(/^ {4,7}/, "")}\n`; continue; }
    if (code) { code.textContent = code.textContent.trimEnd(); code = null; }
    if (line.startsWith("# ")) continue;
    if (line.startsWith("## ")) { blocks.push(make("h3", {}, line.slice(3))); list = item = paragraph = null; }
    else if (mark) {
      const tag = mark === "-" ? "ul" : "ol";
      if (list?.tagName.toLowerCase() !== tag) { list = make(tag); blocks.push(list); }
      item = make("li", {}, ...inline(rest)); list.append(item); paragraph = null;
    } else if (/^ {4}/.test(line) && paragraph === null && (item === null || line.startsWith("       "))) {
      code = make("pre", {}, `${line.replace(/^ {4,7}/, "")}\n`); (item ?? { append: (c) => blocks.push(c) }).append(code);
    } else if (line.trim() === "") { paragraph = null; }
    else if (item && line.startsWith("  ")) { item.append(" ", ...inline(line.trim())); }
    else if (paragraph) { paragraph.append(" ", ...inline(line)); }
    else { list = item = null; paragraph = make("p", {}, ...inline(line)); blocks.push(paragraph); }
  }
  if (code) code.textContent = code.textContent.trimEnd();
  return blocks;
}

export function drawLab(lab) {
  const { current, exercises } = lab.progress;
  redraw($("exercise"), [lab.exercises, lab.progress], () => {
    const chosen = $("exercise").value;
    return lab.exercises.map((exercise) => make("option", {
      value: exercise.number, selected: chosen ? chosen === `${exercise.number}` : exercise.id === current,
    }, `${exercise.number}. ${exercise.title}${exercises[exercise.id]?.passed ? " ✓" : ""}`));
  });
  for (const id of ["lab-start", "lab-check", "lab-hint", "lab-solve", "lab-reset"]) $(id).setAttribute("aria-disabled", Boolean(lab.running));
  $("lab-actions").hidden = !current && !lab.running;
  const now = lab.exercises.find((exercise) => exercise.id === current);
  const words = { start: "setting it up …", check: "checking …", solve: "solving …", reset: "resetting …", hint: "…" };
  $("lab-told").textContent = lab.running ? words[lab.running] : now ? `${now.number}. ${now.title}` : "none started";
  tell($("lab-trouble"), failureText(lab.failure));
  const found = lab.checked;
  redraw($("lab-found"), [found, lab.hints], () => {
    const points = (found?.checkpoints ?? []).map((point) => {
      const kind = point.works === null ? "" : point.works ? "good" : "bad";
      return make("li", { class: kind }, make("span", { class: "dot" }), ` ${point.claim}`,
        point.works === false ? make("small", {}, `expected: ${point.expected}`) : null,
        make("small", {}, point.works === null ? "skipped: an earlier check failed" : `got: ${point.seen}`));
    });
    const different = (found?.different ?? []).map((line) => make("li", { class: "warn" }, make("span", { class: "dot" }), ` ${line}`));
    const hints = lab.hints.map((hint, index) => make("li", {}, make("b", {}, `Hint ${index + 1} of ${lab.hintsOf} `), hint));
    const done = found?.passed ? [make("li", { class: "good" }, make("p", { class: "note good" }, "Done."))] : [];
    return [make("ul", { id: "lab-points" }, ...done, ...points, ...different, ...hints)];
  });
  redraw($("lab-page"), lab.page, () => (lab.page ? markdown(lab.page) : []));
}
