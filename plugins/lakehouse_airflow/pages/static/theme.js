// Light or dark as Airflow around the page is, or as the browser wishes when the page stands alone.
(() => {
  const own = document.documentElement;
  const wish = window.matchMedia("(prefers-color-scheme: dark)");
  let around = null;
  try {
    around = window.parent === window ? null : window.parent.document.documentElement;
  } catch {
    // Another origin's page is around it.
  }
  const follow = () => {
    const told = around && ["dark", "light"].find((t) => around.classList.contains(t) || around.dataset.theme === t);
    own.dataset.theme = told ?? (wish.matches ? "dark" : "light");
  };
  follow();
  wish.addEventListener("change", follow);
  if (around) new MutationObserver(follow).observe(around, { attributes: true });
})();
