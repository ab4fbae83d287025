/** A scroll position over more rows than an element may be high. Pure.
 *
 * Browsers cap an element's height at some ten million pixels. Over that, the scrollbar stands for the whole range, while small
 * movements (a wheel, a finger, a key) move by real pixels.
 */

export const TALLEST = 8_000_000;

export interface Scroll {
  /** Pixels scrolled, of the real height. */
  top: number;
  /** What the scrollbar says. */
  bar: number;
}

export function spacer(contentHeight: number): number {
  return Math.min(contentHeight, TALLEST);
}

/** The position after the scrollbar moved to `bar`. */
export function moved(last: Scroll, bar: number, contentHeight: number, viewHeight: number): Scroll {
  const room = Math.max(contentHeight - viewHeight, 0);
  const barRoom = Math.max(spacer(contentHeight) - viewHeight, 0);
  if (room === barRoom) return { top: bar, bar };
  const step = bar - last.bar;
  const isJump = Math.abs(step) > 2 * viewHeight || bar <= 0 || bar >= barRoom;
  const top = isJump ? (bar / barRoom) * room : last.top + step;
  return { top: Math.min(Math.max(top, 0), room), bar };
}

/** The position that shows real pixel `top` first. */
export function at(top: number, contentHeight: number, viewHeight: number): Scroll {
  const room = Math.max(contentHeight - viewHeight, 0);
  const barRoom = Math.max(spacer(contentHeight) - viewHeight, 0);
  const clamped = Math.min(Math.max(top, 0), room);
  return { top: clamped, bar: room === 0 ? 0 : Math.round((clamped / room) * barRoom) };
}
