"use strict";
// Before the first pixel: the choice between light and dark that a reader has made.
try {
  const chosen = localStorage.getItem("fvfast-theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
} catch {
  // The browser keeps nothing for pages of a disk, or for this reader: the system's choice stays.
}
