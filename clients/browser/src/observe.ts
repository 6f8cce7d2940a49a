import type { Fields, Slate } from "./types.js";

const ATTRIBUTE = "data-midstream-item";
const SEEN_SHARE = 0.5;
const SEEN_MS = 1_000;

type Track = (type: string, fields: Fields) => void;

/** Make the function that reports impressions and clicks of slates by `track`. */
export function makeObserve(track: Track): (root: Element, slate: Slate) => () => void {
  const stops = new WeakMap<Element, () => void>();
  const seenOf = new WeakMap<Slate, Set<string>>();

  return (root, slate) => {
    stops.get(root)?.();
    const seen = seenOf.get(slate) ?? new Set<string>();
    seenOf.set(slate, seen);
    const positions = new Map(slate.items.map((item) => [item.id, item.position]));
    const timers = new Map<Element, number>();
    const report = (type: string, node: Element): void => {
      const id = node.getAttribute(ATTRIBUTE) ?? "";
      if (!positions.has(id)) return;
      if (type === "impression") {
        if (seen.has(id)) return;
        seen.add(id);
      }
      track(type, { item_id: id, request_id: slate.request_id, position: positions.get(id) });
    };
    const waitFor = (node: Element): void => {
      timers.set(
        node,
        window.setTimeout(() => {
          if (document.visibilityState !== "visible") return waitFor(node);
          observer.unobserve(node);
          report("impression", node);
        }, SEEN_MS),
      );
    };
    const observer = new IntersectionObserver(
      (entries) => {
        for (const { target, intersectionRatio } of entries) {
          clearTimeout(timers.get(target));
          if (intersectionRatio >= SEEN_SHARE) waitFor(target);
        }
      },
      { threshold: SEEN_SHARE },
    );
    const onClick = (event: Event): void => {
      const node = event.target instanceof Element && event.target.closest(`[${ATTRIBUTE}]`);
      if (node && (event as MouseEvent).button < 2) report("click", node);
    };
    root.querySelectorAll(`[${ATTRIBUTE}]`).forEach((node) => observer.observe(node));
    root.addEventListener("click", onClick);
    root.addEventListener("auxclick", onClick);
    const stop = (): void => {
      observer.disconnect();
      timers.forEach((timer) => clearTimeout(timer));
      root.removeEventListener("click", onClick);
      root.removeEventListener("auxclick", onClick);
    };
    stops.set(root, stop);
    return stop;
  };
}
