/** The picture's place on the screen: zoom, panning, and which pixel lies under the pointer. */

import { byId, clamp } from "./dom.js";

const STEP = 1.3; // of zooming by keys and buttons
const MOST = 32; // screen pixels for one of the map
const DRAG = 5; // screen pixels from which a press is a drag
const PIXELS_SEEN = 2.5; // zoom from which the picture's own pixels are shown as squares

/**
 * @param {{onHover: Function, onPick: Function, onMove: Function}} calls
 *   onHover({x, y} or null), onPick({x, y}) with places on the stage; onMove() after each change
 */
export function createStage({ onHover, onPick, onMove }) {
  const stage = byId("stage");
  const worlds = [...stage.querySelectorAll(".world")];
  const pointers = new Map();
  let size = [1, 1]; // height and width of the maps
  let place = { scale: 1, x: 0, y: 0 };
  let fitted = true;
  let dragged = false;

  const self = { fit, zoom, toPixel, toScreen, setSize, element: stage };

  function setSize(shown) {
    const same = shown[0] === size[0] && shown[1] === size[1];
    size = shown;
    for (const world of worlds) {
      world.style.width = `${size[1]}px`;
      world.style.height = `${size[0]}px`;
    }
    if (!same || fitted) fit();
  }

  function fitting() {
    const { clientWidth: width, clientHeight: height } = stage;
    return Math.min(width / size[1], height / size[0]) || 1;
  }

  function fit() {
    const scale = fitting();
    fitted = true;
    move({
      scale,
      x: (stage.clientWidth - size[1] * scale) / 2,
      y: (stage.clientHeight - size[0] * scale) / 2,
    });
  }

  function zoom(factor, at = { x: stage.clientWidth / 2, y: stage.clientHeight / 2 }) {
    const scale = clamp(place.scale * factor, fitting(), MOST);
    if (scale <= fitting() * 1.001) return fit();
    const grown = scale / place.scale;
    fitted = false;
    move({ scale, x: at.x - (at.x - place.x) * grown, y: at.y - (at.y - place.y) * grown });
  }

  /** Takes a place, so that no more of the stage stays empty than must. */
  function move({ scale, x, y }) {
    const bound = (offset, room, length) =>
      length <= room ? (room - length) / 2 : clamp(offset, room - length, 0);
    place = {
      scale,
      x: bound(x, stage.clientWidth, size[1] * scale),
      y: bound(y, stage.clientHeight, size[0] * scale),
    };
    for (const world of worlds) {
      world.style.transform = `translate(${place.x}px, ${place.y}px) scale(${place.scale})`;
    }
    stage.classList.toggle("enlarged", place.scale > 1);
    stage.classList.toggle("pixels", place.scale >= PIXELS_SEEN);
    stage.classList.toggle("zoomed", !fitted);
    onMove();
  }

  /** [row, column] of the map under a place of the stage, or null beside the picture. */
  function toPixel({ x, y }) {
    const column = Math.floor((x - place.x) / place.scale);
    const row = Math.floor((y - place.y) / place.scale);
    const inside = row >= 0 && column >= 0 && row < size[0] && column < size[1];
    return inside ? [row, column] : null;
  }

  /** The place on the stage of the middle of a pixel. */
  function toScreen([row, column]) {
    return { x: place.x + (column + 0.5) * place.scale, y: place.y + (row + 0.5) * place.scale };
  }

  function local(event) {
    const box = stage.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  }

  const outside = (event) => event.target.closest("#zoom, #divider");

  stage.addEventListener("wheel", (event) => {
    event.preventDefault();
    const lines = event.deltaMode === 1 ? 30 : 1;
    zoom(Math.exp(-event.deltaY * lines * 0.0016), local(event));
  }, { passive: false });

  stage.addEventListener("pointerdown", (event) => {
    if (outside(event) || event.button > 0) return;
    pointers.set(event.pointerId, local(event));
    dragged = pointers.size > 1;
    stage.setPointerCapture(event.pointerId);
  });

  stage.addEventListener("pointermove", (event) => {
    const to = local(event);
    const from = pointers.get(event.pointerId);
    if (!from) return onHover(outside(event) ? null : to);
    const far = Math.hypot(to.x - from.x, to.y - from.y) > DRAG;
    if (!dragged && !far) return;
    dragged = true;
    onHover(null);
    if (pointers.size === 2) pinch(event.pointerId, from, to);
    else if (!fitted) move({ ...place, x: place.x + to.x - from.x, y: place.y + to.y - from.y });
    pointers.set(event.pointerId, to);
  });

  function pinch(id, from, to) {
    const [other] = [...pointers].filter(([key]) => key !== id).map(([, value]) => value);
    const apart = (point) => Math.hypot(point.x - other.x, point.y - other.y) || 1;
    zoom(apart(to) / apart(from), { x: (to.x + other.x) / 2, y: (to.y + other.y) / 2 });
  }

  const release = (event) => {
    const was = pointers.delete(event.pointerId);
    if (was && !dragged && event.type === "pointerup") onPick(local(event));
  };
  stage.addEventListener("pointerup", release);
  stage.addEventListener("pointercancel", release);
  stage.addEventListener("pointerleave", () => onHover(null));

  byId("zoom-in").onclick = () => zoom(STEP);
  byId("zoom-out").onclick = () => zoom(1 / STEP);
  byId("zoom-fit").onclick = fit;
  new ResizeObserver(() => (fitted ? fit() : move(place))).observe(stage);
  return self;
}
