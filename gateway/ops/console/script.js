"use strict";
// The console: reads one event a second from /ops/events and draws what happened during the last five minutes. It keeps
// no more than that, and its only secret, the ops token, lives in this tab's sessionStorage.
(() => {
  const $ = id => document.getElementById(id);
  const KEEP = 300;         // samples, a second apart
  const CALM = 3;           // seconds that a big number is an average of
  const WINDOW = 10;        // seconds that percentiles are of
  const SILENCE = 6000;     // ms without an event until the stream counts as lost
  const history = [];
  let token = sessionStorage.getItem("sluice-ops-token") || "";
  let lastEvent = 0, stream = null;

  // ---- words and numbers

  const whole = new Intl.NumberFormat("en", {maximumFractionDigits: 0});
  const short = new Intl.NumberFormat("en", {notation: "compact", maximumSignificantDigits: 3});
  const number = n => n >= 1e7 ? short.format(n) : whole.format(n);
  const rate = n => n > 0 && n < 9.95 ? n.toFixed(1) : number(n);
  const count = (n, one, many) => number(n) + " " + (n === 1 ? one : many || one + "s");
  const plain = code => code.replaceAll("_", " ");
  const sum = o => Object.values(o || {}).reduce((a, b) => a + b, 0);
  function span(s) {
    if (s < 1e-3) return Math.round(s * 1e6) + " µs";
    if (s < 1) return (s * 1e3).toPrecision(s < 0.1 ? 2 : 3) + " ms";
    if (s < 90) return (s < 10 ? s.toFixed(1) : Math.round(s)) + " s";
    if (s < 5400) return Math.round(s / 60) + " min";
    if (s < 172800) return Math.floor(s / 3600) + " h " + Math.round(s % 3600 / 60) + " min";
    return Math.floor(s / 86400) + " days";
  }
  function bytes(n) {
    const units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let i = 0;
    for (; n >= 1024 && i < 4; i++) n /= 1024;
    return n.toPrecision(3) + " " + units[i];
  }

  // ---- what happened between two snapshots

  // reasons have fixed colours, so that a picture means the same tomorrow.
  const colours = {sold_out: 0, over_limit: 1, not_open: 2, closed: 3, overloaded: 4, rate_limited: 5, not_ready: 6, outcome_unknown: 6};
  const colour = reason => "var(--r" + (colours[reason] ?? 7) + ")";

  function sampleOf(d) {
    const g = d.gateway || {}, e = d.engine || {}, p = d.persist || {};
    return {d, t: Date.parse(d.at) / 1000, uptime: d.uptime_seconds, in: g.in || 0, accepted: e.verdicts?.placed || 0,
      stored: p.stored || 0, refused: sum(g.refused), reasons: g.refused || {},
      left: Object.fromEntries((d.offers || []).map(o => [o.id, o.left]))};
  }
  // per is the change a second of what get reads, from one sample to another.
  const per = (a, b, get) => Math.max(0, get(b) - get(a)) / Math.max(0.2, b.t - a.t);
  // ago is the sample of so many seconds before the last one, or the first there is.
  function ago(seconds) {
    const last = history.at(-1);
    return history.findLast(s => s.t <= last.t - seconds + 0.2) || history[0];
  }
  const lately = (get, seconds = CALM) => per(ago(seconds), history.at(-1), get);
  // series are the rates between the samples that the charts show.
  const series = get => history.slice(1).map((s, i) => ({t: s.t, v: per(history[i], s, get)}));

  // quantiles of what two snapshots of a histogram differ by, inside a bucket by interpolation. null: nothing was counted.
  function quantiles(from, to, qs) {
    if (!to) return null;
    const counts = to.counts.map((n, i) => n - (from?.counts[i] || 0));
    const all = counts.reduce((a, b) => a + b, 0);
    if (all <= 0) return null;
    return qs.map(q => {
      let rest = q * all;
      for (let i = 0; i < counts.length; i++) {
        if (rest <= counts[i]) {
          const low = i ? 2 ** (i - 1) : 0;
          return low + (2 ** i - 1 - low) * rest / Math.max(1, counts[i]);
        }
        rest -= counts[i];
      }
      return 2 ** (counts.length - 1);
    });
  }

  // ---- drawing

  const NS = "http://www.w3.org/2000/svg";
  function draw(svg, shapes) {
    svg.replaceChildren(...shapes.map(([name, attributes, text]) => {
      const el = document.createElementNS(NS, name);
      for (const [k, v] of Object.entries(attributes)) k === "c" ? el.style.setProperty("--c", v) : el.setAttribute(k, v);
      if (text !== undefined) el.textContent = text;
      return el;
    }));
  }
  const round = n => Math.round(n * 10) / 10;
  const path = points => points.map(([x, y], i) => (i ? "L" : "M") + round(x) + " " + round(y)).join("");
  // nice is the next round number above n.
  function nice(n) {
    const unit = 10 ** Math.floor(Math.log10(n));
    return unit * [1, 2, 5, 10].find(k => k * unit >= n * 0.999);
  }
  // shown is how many seconds the pictures show: a minute at first, then all that is known.
  const shown = () => Math.min(KEEP, Math.max(60, history.at(-1).t - history[0].t));
  const across = (t, width) => width * (1 - (history.at(-1).t - t) / shown());

  function spark(svg, values) {
    const width = svg.clientWidth, height = svg.clientHeight;
    const top = Math.max(1, ...values.map(p => p.v));
    const points = values.map(p => [across(p.t, width), height - 1 - (height - 4) * p.v / top]);
    if (points.length < 2) return draw(svg, []);
    draw(svg, [["path", {class: "under", d: path(points) + "L" + round(points.at(-1)[0]) + " " + height + "L" + round(points[0][0]) + " " + height + "Z"}],
      ["path", {class: "stroke", d: path(points)}]]);
  }

  // frame is the grid of a chart with its labels: y from 0 to top.
  function frame(width, height, top, label) {
    const shapes = [];
    for (const part of [0, 0.5, 1]) {
      const y = Math.round(height - 18 - (height - 32) * part) + 0.5;
      shapes.push(["line", {class: "grid", x1: 0, x2: width, y1: y, y2: y}]);
      if (part) shapes.push(["text", {x: 0, y: y - 3}, label(top * part)]);
    }
    shapes.push(["text", {x: 0, y: height - 4}, span(shown()) + " ago"], ["text", {x: width, y: height - 4, "text-anchor": "end"}, "now"]);
    return shapes;
  }
  const place = (svg, top) => p => [across(p.t, svg.clientWidth), svg.clientHeight - 18 - (svg.clientHeight - 32) * Math.min(1, p.v / top)];

  // stacked draws layers [{c, values}] on top of each other.
  function stacked(svg, layers) {
    const sums = layers[0] ? layers[0].values.map(p => ({t: p.t, v: 0})) : [];
    const steps = layers.map(layer => {
      const under = sums.map(p => ({...p}));
      layer.values.forEach((p, i) => { sums[i].v += p.v; });
      return {c: layer.c, under, over: sums.map(p => ({...p}))};
    });
    const top = nice(Math.max(4, ...sums.map(p => p.v)));
    const at = place(svg, top);
    draw(svg, [...frame(svg.clientWidth, svg.clientHeight, top, v => rate(v) + "/s"),
      ...steps.filter(s => s.over.length > 1).map(s => ["path", {class: "layer", c: s.c, d: path([...s.over.map(at), ...s.under.reverse().map(at)]) + "Z"}])]);
  }

  // lines draws [{name, values}]; a value of null leaves a gap.
  function lines(svg, all) {
    const top = nice(Math.max(1e-3, ...all.flatMap(l => l.values.map(p => p.v || 0))));
    const at = place(svg, top), shapes = frame(svg.clientWidth, svg.clientHeight, top, span);
    for (const line of all) {
      let run = [];
      const end = () => { if (run.length > 1) shapes.push(["path", {class: "stroke " + line.name, d: path(run)}]); run = []; };
      for (const p of line.values) p.v === null ? end() : run.push(at(p));
      end();
    }
    draw(svg, shapes);
  }

  // rows writes a table's body: cells are texts, or [text, class, colour].
  function rows(table, list) {
    table.tBodies[0].replaceChildren(...list.map(cells => {
      const tr = document.createElement("tr");
      for (const cell of cells) {
        const td = document.createElement("td"), [text, cls, c] = [].concat(cell);
        td.textContent = text;
        if (cls) td.className = cls;
        if (c) td.style.setProperty("--c", c);
        tr.append(td);
      }
      return tr;
    }));
  }
  function element(name, cls, text) {
    const el = document.createElement(name);
    if (cls) el.className = cls;
    if (text !== undefined) el.textContent = text;
    return el;
  }

  // ---- the parts of the page

  // runs tells whether the process has the role; what it does not run is not shown.
  const runs = (d, role) => d.role === "all" || d.role === role;

  function alarms(d) {
    const list = [], p = d.persist || {}, now = d.present || {};
    const bad = text => list.push(["bad", text]), warn = text => list.push(["warn", text]);
    if (d.missing?.length) bad("Not ready: " + d.missing.join("; ") + ".");
    if (p.rejected_guard > 0) bad(count(p.rejected_guard, "order") + " rejected after acceptance. Buyers were told yes, then no. Run `sluice audit`, read the log.");
    if (p.stopped > 0) bad(count(p.stopped, "partition is", "partitions are") + " stopped: orders are not stored until somebody looks. The log says why.");
    if (now.disk_free >= 0 && now.disk_free < now.disk_free_min) bad("The disk is full: new orders are turned away. " + bytes(now.disk_free) + " free, " + bytes(now.disk_free_min) + " are kept for accepted orders.");
    else if (now.disk_free >= 0 && now.disk_free < 2 * now.disk_free_min) warn("The disk is nearly full: " + bytes(now.disk_free) + " free; below " + bytes(now.disk_free_min) + " new orders are turned away.");
    for (const kind of ["flash", "normal"]) {
      const age = Math.max(0, ...(d.partitions || []).filter(q => q.kind === kind).map(q => q.queue_age_seconds));
      if (age > 5) (age > 60 ? bad : warn)("The " + kind + " queue is " + span(age) + " behind: accepted orders wait to be stored.");
    }
    if (now.poison > 0) bad(count(now.poison, "order is", "orders are") + " poison: the shard refuses the row. `sluice parked list` shows them.");
    if (now.parked > 0) warn(count(now.parked, "accepted order waits", "accepted orders wait") + " because a user shard is down; recorded when it is back.");
    if (now.dead_letters > 0) bad(count(now.dead_letters, "damaged message waits", "damaged messages wait") + " for a person. `sluice deadletter list` shows them.");
    if (p.alarms > 0) bad(count(p.alarms, "order id") + " came in two batches. Read the log.");
    if (lately(s => s.reasons.outcome_unknown || 0, WINDOW) > 0) warn("Some answers were late (504): those buyers do not know whether they have an order.");
    if (lately(s => s.reasons.overloaded || 0, WINDOW) > 0) warn("Overloaded: more comes than can wait, and the rest is turned away with 503.");
    if (runs(d, "gateway") && now.lease_seconds < 30 && d.uptime_seconds > 10) warn("The lease of the node number is not renewed: in " + span(now.lease_seconds) + " no order can be taken.");
    if (d.config?.last_error) warn("The last configuration was refused, the former one stays: " + d.config.last_error);
    document.title = (list.length ? "(" + list.length + ") " : "") + "Sluice";
    if (!list.length) list.push(["good", "Nothing is wrong."]);
    const text = list.map(a => a.join()).join("\n");
    if ($("alarms").dataset.text === text) return; // said once, not every second
    $("alarms").dataset.text = text;
    $("alarms").replaceChildren(...list.map(([cls, text]) => element("li", cls, text)));
  }

  function heads(last) {
    for (const name of ["in", "accepted", "stored", "refused"]) {
      const get = s => s[name];
      $(name).textContent = history.length > 1 ? rate(lately(get)) : "–";
      spark($(name + "-line"), series(get));
      if (name !== "in") $(name + "-all").textContent = number(last[name]) + " since the start";
    }
  }

  function offers(list) {
    $("offers").replaceChildren(...(list.length ? list : [null]).map(o => {
      if (!o) return element("li", "soft", "Nothing is on sale here yet.");
      const li = element("li", o.state === "closed" || o.state === "sold_out" ? "gone" : ""), title = element("p", "title");
      title.append(element("span", "", o.title), element("span", "soft", o.kind + " " + o.id));
      const before = ago(CALM), last = history.at(-1);
      const speed = before.left[o.id] === undefined ? 0 : per(before, last, s => -s.left[o.id]);
      const opens = (Date.parse(o.opens_at) - Date.parse(last.d.at)) / 1000;
      let says = o.state === "open" ? "" : plain(o.state);
      if (o.state === "upcoming") says = "opens in " + span(Math.max(1, Math.round(opens)));
      else if (speed > 0) says = "−" + rate(speed) + "/s" + (o.left ? ", gone in " + span(Math.max(1, o.left / speed)) : "");
      const left = element("p", "left"), units = element("span");
      units.append(element("b", "", number(o.left)), " of " + number(o.total) + " left");
      left.append(units, element("span", "", says));
      const meter = element("meter");
      meter.max = Math.max(1, o.total);
      meter.value = o.left;
      meter.setAttribute("aria-label", "units left of " + o.title);
      li.append(title, left, meter);
      return li;
    }));
  }

  function refusals(last) {
    const reasons = Object.keys(last.reasons).filter(r => last.reasons[r] > 0).sort((a, b) => last.reasons[b] - last.reasons[a]);
    stacked($("refusals-chart"), reasons.map(r => ({c: colour(r), values: series(s => s.reasons[r] || 0)})));
    rows($("refusals"), reasons.length ? reasons.map(r => {
      const now = lately(s => s.reasons[r] || 0);
      return [[plain(r), "key", colour(r)], [rate(now), now ? "" : "zero"], number(last.reasons[r])];
    }) : [[["nobody so far", "zero"], "", ""]]);
  }

  function times(last) {
    const qs = [0.5, 0.95, 0.99], before = ago(WINDOW).d;
    const row = (name, cls, get) => {
      const q = quantiles(get(before), get(last.d), qs);
      return [[name, cls], ...(q ? q.map(v => span(v / 1e6)) : ["–", "–", "–"]).map(v => [v, v === "–" ? "zero" : ""])];
    };
    rows($("times"), [row("whole answer", "", d => d.gateway?.placing), row("reserve, a batch", "", d => d.engine?.reserve),
      row("publish, a batch", "", d => d.engine?.publish), row("store, a flush", "", d => d.persist?.flush)]);
    const over = i => history.slice(1).map((s, j) => {
      const q = s.quantiles ??= quantiles(history[Math.max(0, j - 1)].d.gateway?.placing, s.d.gateway?.placing, [0.5, 0.99]) || [null, null];
      return {t: s.t, v: q[i] === null ? null : q[i] / 1e6};
    });
    lines($("latency-chart"), [{name: "p99", values: over(1)}, {name: "p50", values: over(0)}]);
  }

  function queue(d) {
    const e = d.engine || {}, p = d.persist || {}, l = d.lifecycle || {}, now = d.present || {}, before = ago(WINDOW).d, list = [];
    const add = (name, value, alarm) => list.push(element("dt", "", name), element("dd", alarm ? "alarm" : "", value));
    const backlog = sum(now.backlog);
    const typical = (from, to) => {
      const q = quantiles(from, to, [0.5, 0.99]);
      return q ? "median " + number(q[0]) + ", p99 " + number(q[1]) : "–";
    };
    const gateway = runs(d, "gateway"), persist = runs(d, "persist");
    if (gateway || persist) add("messages that are not stored", number(backlog));
    if (persist) add("from the request to the row, last flush", !p.lag_seconds ? "–" : span(p.lag_seconds));
    if (gateway) add("orders in a batch", typical(before.engine?.batch_orders, e.batch_orders));
    if (persist) add("orders in a flush", typical(before.persist?.flush_orders, p.flush_orders));
    if (gateway) add("requests under way", number(d.gateway?.in_flight || 0));
    if (runs(d, "lifecycle")) {
      add("expired, units given back", number(l.expired || 0) + ", " + number(l.given_back || 0));
      add("events in the feed", number(l.events_numbered || 0));
    }
    add("parked", now.parked < 0 ? "cannot be read" : number(now.parked), now.parked !== 0);
    add("poison", now.poison < 0 ? "cannot be read" : number(now.poison), now.poison !== 0);
    add("dead letters", now.dead_letters < 0 ? "cannot be read" : number(now.dead_letters), now.dead_letters !== 0);
    if (persist) add("rejected after acceptance", number(p.rejected_guard || 0), p.rejected_guard > 0);
    if (gateway) add("rebuilds of fast stock", number(e.rebuilds || 0) + (e.drift ? ", " + number(e.drift) + " for drift" : ""));
    add("free on disk", now.disk_free < 0 ? "cannot be read" : bytes(now.disk_free));
    add("memory", bytes(d.resident_bytes || 0));
    $("queue").replaceChildren(...list);
  }

  function partitions(d) {
    rows($("partitions"), (d.partitions || []).map(p => [p.partition + " " + p.kind, p.state === "open" ? "open" : [p.state, "alarm"],
      [number(p.waiting), p.waiting ? "" : "zero"], [number(d.present?.backlog?.[p.partition] || 0), d.present?.backlog?.[p.partition] ? "" : "zero"],
      [p.queue_age_seconds ? span(p.queue_age_seconds) : "0", p.queue_age_seconds > 5 ? "alarm" : p.queue_age_seconds ? "" : "zero"], [p.epoch, "wide"]]));
  }

  function show(d) {
    const s = sampleOf(d), last = history.at(-1);
    if (last && s.uptime < last.uptime) history.length = 0; // it was started again: its counters are new
    if (last && history.length && s.t <= last.t) return;    // the same snapshot
    history.push(s);
    if (history.length > KEEP) history.shift();
    const old = history.at(-2 * WINDOW);
    if (old) old.d = null; // its rates are enough
    $("facts").textContent = [d.version, d.role !== "all" && "role " + d.role, d.commit !== "unknown" && d.commit, "up " + span(d.uptime_seconds), d.config && "configuration " + d.config.generation].filter(Boolean).join(" · ");
    $("main").hidden = false;
    document.querySelectorAll("[data-of]").forEach(el => { el.hidden = !runs(d, el.dataset.of); });
    alarms(d);
    offers(d.offers || []);
    charts();
    queue(d);
    partitions(d);
  }

  // charts are drawn for the width that they have: anew with each sample, and when it changes.
  function charts() {
    const last = history.at(-1);
    if (!last) return;
    heads(last);
    refusals(last);
    times(last);
  }
  const widths = new ResizeObserver(charts);
  document.querySelectorAll("svg").forEach(svg => widths.observe(svg));

  // ---- the stream

  function ask(why) {
    token = "";
    sessionStorage.removeItem("sluice-ops-token");
    $("why").textContent = why;
    $("ask").hidden = false;
    $("main").hidden = $("leave").hidden = true;
    linkIs("", "no token");
    $("token").value = "";
    $("token").focus();
  }
  function linkIs(cls, text) {
    if ($("link").textContent === text) return;
    $("link").className = cls;
    $("link").textContent = text;
  }

  async function listen() {
    const mine = stream = new AbortController();
    try {
      // EventSource cannot send a header; this reads the same stream.
      const answer = await fetch("ops/events", {headers: {Authorization: "Bearer " + token}, signal: mine.signal, cache: "no-store"});
      if (answer.status === 401) return ask("The server does not take this token.");
      if (!answer.ok) throw new Error((await answer.json()).detail);
      sessionStorage.setItem("sluice-ops-token", token);
      $("ask").hidden = true;
      $("leave").hidden = false;
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      let text = "";
      for (;;) {
        const {done, value} = await reader.read();
        if (done) throw new Error("the server has ended the stream");
        text += value;
        for (let end; (end = text.indexOf("\n\n")) >= 0; text = text.slice(end + 2)) {
          const data = text.slice(0, end).split("\n").filter(l => l.startsWith("data: ")).map(l => l.slice(6)).join("\n");
          lastEvent = Date.now();
          linkIs("live", "live");
          if (data) show(JSON.parse(data));
        }
      }
    } catch (err) {
      if (mine !== stream) return; // the token was forgotten meanwhile
      linkIs("lost", "no connection, trying again");
      console.info("sluice: " + err.message);
      setTimeout(() => { if (mine === stream) listen(); }, 1000);
    }
  }

  $("ask").addEventListener("submit", event => {
    event.preventDefault();
    token = $("token").value.trim();
    $("why").textContent = "";
    listen();
  });
  $("leave").addEventListener("click", () => {
    const old = stream;
    stream = null;
    old?.abort();
    history.length = 0;
    ask("");
  });
  setInterval(() => { // a connection that says nothing is cut, which begins another
    if (lastEvent && !$("main").hidden && Date.now() - lastEvent > SILENCE) {
      lastEvent = Date.now();
      linkIs("lost", "no connection, trying again");
      stream?.abort();
    }
  }, 1000);

  function begin() {
    const given = new URLSearchParams(location.hash.slice(1)).get("token");
    if (given) {
      token = given;
      window.history.replaceState(null, "", location.pathname); // out of the address, where somebody may read it
    }
    token ? listen() : ask("");
  }
  window.addEventListener("hashchange", () => { if (location.hash) begin(); });
  begin();
})();
