// Which screens there are, where they are, and who sees them. A screen is a list, and what is below it one of its things.
import { Overview } from "./overview.jsx";
import { Queues } from "./queues.jsx";

export const SCREENS = {
  "": [Overview],
  queues: [Queues],
};

export const NAVIGATION = [
  { label: "", entries: [{ label: "Overview", where: [], key: "o" }] },
  { label: "Messages", entries: [{ label: "Queues", where: ["queues"], key: "q" }] },
];
