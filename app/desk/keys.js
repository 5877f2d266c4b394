// What Streamlit's own shortcuts leave out. Runs once for each page that is loaded.
if (!window.outvotedKeys) {
  window.outvotedKeys = true;
  const typing = (at) => at && at.closest && at.closest("input, textarea, [contenteditable]");

  window.addEventListener("keydown", (event) => {
    // A key that is held down repeats, and would judge pair after pair unseen.
    if (event.repeat && /^[a-z0-9]$/i.test(event.key) && !typing(event.target))
      event.stopImmediatePropagation();
    // From a note back to the keys.
    if (event.key === "Escape" && typing(event.target)) event.target.blur();
  }, true);

  // Shortcuts ignore keys that are pressed in a field, and a box of the Grid that was just ticked
  // is one: send its letters to the page instead.
  window.addEventListener("keydown", (event) => {
    if (event.target.type !== "checkbox" || !document.querySelector("#grid-ready")) return;
    if (event.ctrlKey || event.metaKey || event.altKey || !/^[a-z]$/i.test(event.key)) return;
    event.stopImmediatePropagation();
    if (event.repeat) return;
    const { key, code } = event;
    document.body.dispatchEvent(new KeyboardEvent("keydown", { key, code, bubbles: true }));
  }, true);

  // A click on an image does what the button Zoom does; in the dialog, it shows the pixels.
  document.addEventListener("click", (event) => {
    const mount = event.target.closest(".desk-mount img");
    if (mount && !mount.closest(".blurred"))
      document.querySelector('[class*="st-key-Zoom-"] button')?.click();
    event.target.closest(".desk-own")?.classList.toggle("actual");
  });

  // A key that is pressed while the page is being drawn is lost, so the page says when it is ready.
  let calm = 0;
  setInterval(() => {
    const app = document.querySelector('[data-testid="stApp"]');
    const drawn = app?.dataset.testScriptState === "notRunning"
      && document.querySelector(".st-key-verdicts button");
    calm = drawn ? calm + 1 : 0;
    const state = calm > 1 ? "ready" : "wait";
    if (document.documentElement.dataset.keys !== state)
      document.documentElement.dataset.keys = state;
  }, 60);
}
