"use strict";
// What is seen on the canvas: the picture, the outlines and boxes of objects, previews, the box in hand.

const COLOURS = ["#7ddc4f", "#ff8a65", "#64b5f6", "#ffd54f", "#ba68c8", "#4dd0e1", "#f06292"];
const DASHES = [6, 4];

const colourOf = (number) => COLOURS[(number - 1) % COLOURS.length];

function draw() {
  if (!state.picture) return;
  const k = state.scale;
  pen.imageSmoothingEnabled = false;
  pen.drawImage(state.picture, 0, 0, view.width, view.height);
  pen.lineWidth = Math.max(1.5, view.width / 500);
  for (const object of state.objects) {
    if (object.isHidden) continue;
    pen.strokeStyle = pen.fillStyle = object.colour;
    const outlines = trace(object.contours);
    pen.globalAlpha = 0.25;
    pen.fill(outlines, "evenodd");
    pen.globalAlpha = 1;
    pen.stroke(outlines);
    if (object.slice === state.shown) frame(object.box);
  }
  pen.setLineDash(DASHES); // of what will be refined, in the colours that will come
  state.previews.forEach(({ contours }, place) => {
    pen.strokeStyle = colourOf(state.next + place);
    pen.stroke(trace(contours));
  });
  pen.setLineDash([]);
  if (state.drag) {
    pen.strokeStyle = "#ffffff";
    frame(state.drag);
  }
}

function trace(contours) { // of the slice that is shown
  const k = state.scale, outlines = new Path2D();
  for (const polygon of contours[state.shown] ?? []) {
    polygon.forEach(([x, y], i) => outlines[i ? "lineTo" : "moveTo"]((x + 0.5) * k, (y + 0.5) * k));
    outlines.closePath();
  }
  return outlines;
}

function frame([x0, y0, x1, y1]) { // round its first and last pixels
  const k = state.scale;
  pen.setLineDash(DASHES);
  pen.strokeRect(Math.min(x0, x1) * k, Math.min(y0, y1) * k,
    (Math.abs(x1 - x0) + 1) * k, (Math.abs(y1 - y0) + 1) * k);
  pen.setLineDash([]);
}

function place(event) { // the pixel under the cursor
  const area = view.getBoundingClientRect();
  const x = (event.clientX - area.left) / area.width * state.scan.width;
  const y = (event.clientY - area.top) / area.height * state.scan.height;
  return [Math.max(0, Math.min(state.scan.width - 1, Math.floor(x))),
    Math.max(0, Math.min(state.scan.height - 1, Math.floor(y)))];
}
