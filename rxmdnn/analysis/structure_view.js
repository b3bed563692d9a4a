// Draws each .structure-view of the page from its JSON (see structure_view.py): balls and sticks as meshes of plotly.js.
(function () {
  "use strict";
  const STICK = 0.085, SIDES = 10, MARK = "#f2a900";

  // Vertices and triangles of a unit sphere: an icosahedron whose faces are divided again and again.
  function sphere(levels) {
    const g = (1 + Math.sqrt(5)) / 2;
    let points = [[-1, g, 0], [1, g, 0], [-1, -g, 0], [1, -g, 0], [0, -1, g], [0, 1, g], [0, -1, -g], [0, 1, -g],
      [g, 0, -1], [g, 0, 1], [-g, 0, -1], [-g, 0, 1]].map(unit);
    let faces = [[0, 11, 5], [0, 5, 1], [0, 1, 7], [0, 7, 10], [0, 10, 11], [1, 5, 9], [5, 11, 4], [11, 10, 2],
      [10, 7, 6], [7, 1, 8], [3, 9, 4], [3, 4, 2], [3, 2, 6], [3, 6, 8], [3, 8, 9], [4, 9, 5], [2, 4, 11],
      [6, 2, 10], [8, 6, 7], [9, 8, 1]];
    for (let level = 0; level < levels; level++) {
      const halves = new Map();
      const half = (a, b) => {
        const key = a < b ? a + " " + b : b + " " + a;
        if (!halves.has(key)) {
          halves.set(key, points.length);
          points.push(unit(points[a].map((x, k) => x + points[b][k])));
        }
        return halves.get(key);
      };
      faces = faces.flatMap(([a, b, c]) => {
        const ab = half(a, b), bc = half(b, c), ca = half(c, a);
        return [[a, ab, ca], [b, bc, ab], [c, ca, bc], [ab, bc, ca]];
      });
    }
    return { points, faces };
  }

  function unit(v) {
    const n = Math.hypot(v[0], v[1], v[2]) || 1;
    return v.map((x) => x / n);
  }

  function cross(a, b) {
    return [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
  }

  function mesh(color, opacity) {
    return { type: "mesh3d", x: [], y: [], z: [], i: [], j: [], k: [], text: [], color, opacity, hoverinfo: "text",
      showscale: false, lighting: { ambient: 0.72, diffuse: 0.6, specular: 0.25, roughness: 0.5, fresnel: 0.1 },
      lightposition: { x: 1e5, y: 1e5, z: 1e5 } };
  }

  function add(to, points, faces, text) {
    const first = to.x.length;
    for (const p of points) { to.x.push(p[0]); to.y.push(p[1]); to.z.push(p[2]); to.text.push(text); }
    for (const f of faces) { to.i.push(first + f[0]); to.j.push(first + f[2]); to.k.push(first + f[1]); }
  }

  function addBall(to, ball, name, row, at, radius) {
    const text = name + ", atom " + row + "<br>" + at.map((x) => x.toFixed(2)).join(", ") + " Å";
    add(to, ball.points.map((p) => p.map((x, k) => at[k] + radius * x)), ball.faces, text);
  }

  function addStick(to, ends) {
    const a = ends.slice(0, 3), b = ends.slice(3), along = unit(b.map((x, k) => x - a[k]));
    const u = unit(cross(along, Math.abs(along[0]) < 0.9 ? [1, 0, 0] : [0, 1, 0])), w = cross(along, u);
    const points = [], faces = [];
    for (let s = 0; s < SIDES; s++) {
      const c = STICK * Math.cos(2 * Math.PI * s / SIDES), d = STICK * Math.sin(2 * Math.PI * s / SIDES);
      points.push(a.map((x, k) => x + c * u[k] + d * w[k]), b.map((x, k) => x + c * u[k] + d * w[k]));
      const t = (s + 1) % SIDES;
      faces.push([2 * s, 2 * t, 2 * s + 1], [2 * t, 2 * t + 1, 2 * s + 1]);
    }
    add(to, points, faces, "");
  }

  function traces(frame) {
    const made = [], count = frame.elements.reduce((sum, e) => sum + e.at.length, 0);
    const ball = sphere(count > 500 ? 1 : count > 40 ? 2 : 3);
    for (const e of frame.elements) {
      const m = mesh(e.color, 1);
      e.at.forEach((p, n) => addBall(m, ball, e.name, e.rows[n], p, e.radius));
      e.bonds.forEach((ends) => addStick(m, ends));
      made.push(m);
    }
    if (frame.cell.length) {
      const c = { type: "scatter3d", mode: "lines", x: [], y: [], z: [], hoverinfo: "skip", showlegend: false,
        line: { color: "#5b6770", width: 2.5 } };
      for (const e of frame.cell) {
        c.x.push(e[0], e[3], null); c.y.push(e[1], e[4], null); c.z.push(e[2], e[5], null);
      }
      made.push(c);
    }
    if (frame.marked.length) {
      const halo = mesh(MARK, 0.42);
      frame.marked.forEach((m) => addBall(halo, ball, m.name, m.row, m.at, m.radius));
      made.push(halo);
    }
    return made;
  }

  function legend(frame, box) {
    box.replaceChildren();
    const entry = (color, text) => {
      const line = document.createElement("span"), dot = document.createElement("i");
      dot.style.background = color;
      line.append(dot, text);
      box.append(line);
    };
    frame.elements.forEach((e) => entry(e.color, e.name + " (" + e.rows.length + ")"));
    if (frame.marked.length) { entry(MARK, frame.marked.length > 1 ? "marked atoms" : "marked atom"); }
  }

  function start(view) {
    const frames = JSON.parse(view.querySelector("script[type='application/json']").textContent);
    const plot = view.querySelector(".plot"), slider = view.querySelector("input");
    const hidden = { visible: false, showspikes: false };
    const layout = { margin: { l: 0, r: 0, t: 0, b: 0 }, paper_bgcolor: "#eef1f5", showlegend: false, uirevision: "view",
      scene: { aspectmode: "data", dragmode: "orbit", xaxis: hidden, yaxis: hidden, zaxis: hidden, uirevision: "view",
        camera: { eye: { x: 1.2, y: 1.5, z: 0.6 } } } };
    let now = 0;
    const show = (n) => {
      now = Math.min(frames.length - 1, Math.max(0, n));
      if (slider) { slider.value = now; }
      view.querySelector(".caption").textContent =
        (frames.length > 1 ? now + 1 + " of " + frames.length + ": " : "") + frames[now].caption;
      legend(frames[now], view.querySelector(".legend"));
      Plotly.react(plot, traces(frames[now]), layout, { displayModeBar: false, responsive: true });
    };
    if (slider) {
      slider.addEventListener("input", () => show(Number(slider.value)));
      view.querySelector(".back").addEventListener("click", () => show(now - 1));
      view.querySelector(".on").addEventListener("click", () => show(now + 1));
    }
    show(0);
  }

  document.querySelectorAll(".structure-view").forEach(start);
})();
