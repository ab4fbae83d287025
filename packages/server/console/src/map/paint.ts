/** A partition map on a canvas: cells while they are large enough to see, pixels when they are not. */

import { type Colours, css, mixed, shade } from "./colour";
import { type Metric, type PartitionMap, measure } from "./model";
import { ticks } from "./axis";
import { type Frame, type View, boxOf, plot } from "./view";

const CELL_PIXELS = 3;
const GAP_FROM = 7;
const LABEL_GAP = 8;
const LABEL_HEIGHT = 12;

export interface Picture {
  map: PartitionMap;
  metric: Metric;
  view: View;
  frame: Frame;
  colours: Colours;
  shadeOf: (value: number) => number;
}

export function paint(canvas: HTMLCanvasElement, picture: Picture): void {
  const { frame } = picture;
  const ratio = devicePixelRatio;
  canvas.width = Math.round(frame.width * ratio);
  canvas.height = Math.round(frame.height * ratio);
  canvas.style.width = `${frame.width}px`;
  canvas.style.height = `${frame.height}px`;
  const context = canvas.getContext("2d", { alpha: true });
  if (context === null) return;
  const { width, height } = cellSize(picture);
  if (width < CELL_PIXELS || height < CELL_PIXELS) paintPixels(context, picture, ratio);
  else paintCells(context, picture, ratio);
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  paintAxes(context, picture);
}

function cellSize({ view, frame }: Picture): { width: number; height: number } {
  const { width, height } = plot(frame);
  return { width: width / (view.x1 - view.x0), height: height / (view.y1 - view.y0) };
}

function paintCells(context: CanvasRenderingContext2D, picture: Picture, ratio: number): void {
  const { map, view, frame, colours } = picture;
  const values = measure(map, picture.metric);
  const hatch = hatching(context, colours, ratio);
  const size = cellSize(picture);
  const gap = Math.min(size.width, size.height) >= GAP_FROM ? 1 : 0;
  const asBars = map.y.slots.length === 1 && picture.metric !== "age";
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  for (let row = Math.floor(view.y0); row < view.y1; row += 1) {
    for (let column = Math.floor(view.x0); column < view.x1; column += 1) {
      const slot = row * map.x.slots.length + column;
      const box = boxOf(view, frame, column, row);
      if (map.counts[slot] === 0) {
        context.fillStyle = hatch;
        context.fillRect(box.left, box.top, Math.max(box.width - gap, 0.5), Math.max(box.height - gap, 0.5));
        continue;
      }
      const share = picture.shadeOf(values[slot] ?? 0);
      const height = asBars ? Math.max((0.08 + 0.92 * share) * box.height, 2) : box.height - gap;
      context.fillStyle = css(shade(colours, share));
      context.fillRect(
        box.left,
        asBars ? box.top + box.height - height : box.top,
        Math.max(box.width - gap, 0.5),
        height,
      );
    }
  }
}

/** Each pixel is the mean of its cells, and turns to the holes' colour as far as they are holes. */
function paintPixels(context: CanvasRenderingContext2D, picture: Picture, ratio: number): void {
  const { map, view, frame, colours } = picture;
  const values = measure(map, picture.metric);
  const columns = map.x.slots.length;
  const size = plot(frame);
  const [width, height] = [Math.max(Math.floor(size.width * ratio), 1), Math.max(Math.floor(size.height * ratio), 1)];
  const image = context.createImageData(width, height);
  const edges = (from: number, to: number, pixels: number): Int32Array =>
    Int32Array.from({ length: pixels + 1 }, (_, pixel) => Math.floor(from + (pixel / pixels) * (to - from)));
  const [xs, ys] = [edges(view.x0, view.x1, width), edges(view.y0, view.y1, height)];
  const asBars = map.y.slots.length === 1 && picture.metric !== "age";
  for (let py = 0; py < height; py += 1) {
    const [top, bottom] = [ys[py] ?? 0, Math.max(ys[py + 1] ?? 0, (ys[py] ?? 0) + 1)];
    for (let px = 0; px < width; px += 1) {
      const [left, right] = [xs[px] ?? 0, Math.max(xs[px + 1] ?? 0, (xs[px] ?? 0) + 1)];
      let [sum, filled, holes] = [0, 0, 0];
      for (let row = top; row < bottom; row += 1) {
        for (let slot = row * columns + left; slot < row * columns + right; slot += 1) {
          if (map.counts[slot] === 0) holes += 1;
          else {
            filled += 1;
            sum += values[slot] ?? 0;
          }
        }
      }
      const share = filled === 0 ? 0 : picture.shadeOf(sum / filled);
      const isAboveBar = asBars && filled > 0 && 1 - py / height > 0.08 + 0.92 * share;
      if (isAboveBar && holes === 0) continue;
      const colour =
        filled === 0 || isAboveBar
          ? colours.holeSolid
          : mixed(shade(colours, share), colours.holeSolid, holes / (filled + holes));
      image.data.set([...colour, 255], (py * width + px) * 4);
    }
  }
  context.putImageData(image, Math.round(frame.left * ratio), 0);
}

function hatching(context: CanvasRenderingContext2D, colours: Colours, ratio: number): CanvasPattern | string {
  const tile = document.createElement("canvas");
  const side = Math.round(6 * ratio);
  tile.width = tile.height = side;
  const pen = tile.getContext("2d");
  if (pen === null) return css(colours.hole);
  pen.fillStyle = css(colours.hole);
  pen.fillRect(0, 0, side, side);
  pen.strokeStyle = colours.holeLine;
  pen.lineWidth = ratio;
  pen.beginPath();
  for (const shift of [-side, 0, side]) {
    pen.moveTo(shift, side);
    pen.lineTo(shift + side, 0);
  }
  pen.stroke();
  const pattern = context.createPattern(tile, "repeat");
  pattern?.setTransform(new DOMMatrix().scale(1 / ratio));
  return pattern ?? css(colours.hole);
}

function paintAxes(context: CanvasRenderingContext2D, { map, view, frame, colours }: Picture): void {
  const { width, height } = plot(frame);
  const [w, h] = [width / (view.x1 - view.x0), height / (view.y1 - view.y0)];
  context.fillStyle = colours.text;
  context.font = colours.font;
  context.textBaseline = "middle";
  if (map.y.name !== "") {
    context.textAlign = "right";
    for (const row of ticks(map.y, view.y0, view.y1, Math.max(Math.ceil(LABEL_HEIGHT / h), 1))) {
      context.fillText(
        short(map.y.slots[row] ?? null, 18),
        frame.left - 8,
        Math.max((row + 0.5 - view.y0) * h, LABEL_HEIGHT / 2),
      );
    }
  }
  context.textAlign = "center";
  const longest = context.measureText(short(map.x.slots[0] ?? null, 18)).width + 18;
  let end = Number.NEGATIVE_INFINITY;
  for (const column of ticks(map.x, view.x0, view.x1, Math.max(Math.ceil(longest / w), 1))) {
    const x = frame.left + (column + 0.5 - view.x0) * w;
    const text = short(map.x.slots[column] ?? null, 18);
    const half = context.measureText(text).width / 2;
    const middle = Math.min(Math.max(x, half), frame.width - half);
    if (middle - half < end + LABEL_GAP) continue;
    end = middle + half;
    context.fillRect(Math.round(x), height + 2, 1, 4);
    context.fillText(text, middle, height + 15);
  }
}

/** A slot's value as an axis shows it. */
export function short(value: string | null, length: number): string {
  if (value === null) return "NULL";
  const text =
    value === "" ? "(empty)" : value.replace(/ 00:00:00Z?$/, "").replace(/^([\d-]{10} \d\d:\d\d):00Z?$/, "$1");
  return text.length > length ? `${text.slice(0, length - 1)}…` : text;
}
