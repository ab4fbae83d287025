/** The keyboard's map. */

import { Dialog } from "../ui/dialog";
import { MOD } from "../ui/platform";

const KEYS: readonly [title: string, keys: readonly [what: string, ...keys: string[]][]][] = [
  [
    "Editor",
    [
      ["Run the statement or selection", MOD, "Enter"],
      ["Cancel the query", "Esc"],
      ["Complete", "Ctrl", "Space"],
      ["Comment", MOD, "/"],
      ["Leave with Tab", "Esc", "Tab"],
    ],
  ],
  [
    "Anywhere",
    [
      ["Search tables", MOD, "K"],
      ["New tab", "Alt", "N"],
      ["Close tab", "Alt", "W"],
      ["Next / previous tab", "Alt", "]  ["],
      ["Go to the editor", "Alt", "E"],
      ["Go to the result", "Alt", "R"],
      ["Running queries", "Alt", "Q"],
      ["Dark or light", "Alt", "D"],
      ["This help", "?"],
    ],
  ],
  [
    "Rows",
    [
      ["Move", "←↑↓→"],
      ["Extend the selection", "Shift", "←↑↓→"],
      ["First / last row", MOD, "Home / End"],
      ["Copy", MOD, "C"],
      ["Select everything", MOD, "A"],
    ],
  ],
  [
    "Partition map",
    [
      ["Move", "←↑↓→"],
      ["Open the partition", "Enter"],
      ["Zoom", "+  −"],
      ["Show all", "0"],
    ],
  ],
];

export function Help({ onClose }: { onClose: () => void }) {
  return (
    <Dialog title="Keyboard" onClose={onClose}>
      <div class="help">
        {KEYS.map(([title, keys]) => (
          <section key={title}>
            <h3>{title}</h3>
            <dl>
              {keys.map(([what, ...pressed]) => (
                <div key={what}>
                  <dt>{what}</dt>
                  <dd>
                    {pressed.map((key) => (
                      <kbd key={key}>{key}</kbd>
                    ))}
                  </dd>
                </div>
              ))}
            </dl>
          </section>
        ))}
      </div>
    </Dialog>
  );
}
