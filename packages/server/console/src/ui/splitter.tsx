/** A bar between two panes that a pointer or the arrow keys move. */

interface Props {
  label: string;
  orientation: "vertical" | "horizontal";
  /** A share of 0..100, for what reads the screen. */
  value: number;
  onMove: (pixels: number) => void;
  onEnd: () => void;
}

const STEP = 24;

export function Splitter({ label, orientation, value, onMove, onEnd }: Props) {
  const isVertical = orientation === "vertical";
  const drag = (down: PointerEvent): void => {
    const bar = down.currentTarget as HTMLElement;
    let last = isVertical ? down.clientX : down.clientY;
    const move = (event: PointerEvent): void => {
      const at = isVertical ? event.clientX : event.clientY;
      onMove(at - last);
      last = at;
    };
    bar.setPointerCapture(down.pointerId);
    bar.addEventListener("pointermove", move);
    const end = (): void => {
      bar.removeEventListener("pointermove", move);
      onEnd();
    };
    bar.addEventListener("lostpointercapture", end, { once: true });
  };
  const onKeyDown = (event: KeyboardEvent): void => {
    const [less, more] = isVertical ? ["ArrowLeft", "ArrowRight"] : ["ArrowUp", "ArrowDown"];
    if (event.key !== less && event.key !== more) return;
    event.preventDefault();
    onMove(event.key === less ? -STEP : STEP);
    onEnd();
  };
  return (
    <div
      class={`splitter is-${orientation}`}
      role="separator"
      aria-label={label}
      aria-orientation={orientation}
      aria-valuenow={Math.round(value)}
      tabIndex={0}
      onPointerDown={drag}
      onKeyDown={onKeyDown}
    />
  );
}
