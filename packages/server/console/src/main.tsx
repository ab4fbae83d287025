import { render } from "preact";
import { App } from "./frame/app";
import { followCatalog } from "./state/catalog";
import { startClock } from "./state/clock";
import { followLinks } from "./state/link";
import { openSession } from "./state/session";
import { keepTabs } from "./state/tabs";
import { applyTheme } from "./state/theme";
import { listenToKeys } from "./frame/keys";
import "./styles/index.css";

applyTheme();
keepTabs();
listenToKeys();
startClock();
followLinks();
const host = document.querySelector("#console");
if (host !== null) render(<App />, host);
void openSession().then(followCatalog);
