// What Streamlit's own shortcuts leave open. Runs once for a page that is loaded.
if (!window.outvotedKeys) {
  window.outvotedKeys = true;
  const typing = (at) => at && at.closest && at.closest("input, textarea, [contenteditable]");

  window.addEventListener("keydown", (event) => {
    // A key that is held down repeats itself, and would judge pair after pair unseen.
    if (event.repeat && /^[a-z0-9]$/i.test(event.key) && !typing(event.target))
      event.stopImmediatePropagation();
    // Out of a note and back to the keys.
    if (event.key === "Escape" && typing(event.target)) event.target.blur();
  }, true);

  // An image opens what the button Zoom opens; there, a click goes to its pixels and back.
  document.addEventListener("click", (event) => {
    const mount = event.target.closest(".desk-mount img");
    if (mount && !mount.closest(".blurred"))
      document.querySelector('[class*="st-key-Zoom-"] button')?.click();
    event.target.closest(".desk-own")?.classList.toggle("actual");
  });

  // A key that is pressed while the page still draws is lost, so the page says when it is ready.
  let calm = 0;
  setInterval(() => {
    const app = document.querySelector('[data-testid="stApp"]');
    const drawn = app?.dataset.testScriptState === "notRunning"
      && document.querySelector(".st-key-verdicts button");
    calm = drawn ? calm + 1 : 0;
    const said = calm > 1 ? "ready" : "wait";
    if (document.documentElement.dataset.keys !== said)
      document.documentElement.dataset.keys = said;
  }, 60);
}
