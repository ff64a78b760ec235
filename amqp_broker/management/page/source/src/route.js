// Where the page is: the fragment of the address holds a path and a query, so a filter can be sent to somebody else.
import { useEffect, useState } from "preact/hooks";

function read() {
  const [where, query = ""] = (location.hash.slice(1) || "/").split("?");
  const names = where.split("/").filter(Boolean).map((part) => {
    try {
      return decodeURIComponent(part);
    } catch {
      return part;
    }
  });
  return { names, query: Object.fromEntries(new URLSearchParams(query)) };
}

export const to = (...parts) => "#/" + parts.map((part) => encodeURIComponent(part)).join("/");
export const toQuery = (where, query) => {
  const given = Object.entries(query).filter(([, value]) => value !== "" && value !== undefined && value !== null && value !== false);
  return given.length ? `${where}?${new URLSearchParams(given)}` : where;
};
export const go = (address) => (location.hash = address);

/** Change the query of the present address, without a step in the history. */
export function setQuery(changes) {
  const { names, query } = read();
  history.replaceState(null, "", toQuery(to(...names), { ...query, ...changes }));
  window.dispatchEvent(new Event("hashchange"));
}

export function useRoute() {
  const [route, set] = useState(read);
  useEffect(() => {
    const changed = () => set(read());
    window.addEventListener("hashchange", changed);
    return () => window.removeEventListener("hashchange", changed);
  }, []);
  return route;
}
