// The buttons by which a person decides about quarantined rows: each triggers the DAG by Airflow's own API.
document.querySelector("form.decide")?.addEventListener("submit", async (event) => {
  event.preventDefault();
  const form = event.target, action = event.submitter.value, told = form.querySelector("[role=status]");
  const { dag, entity, rule, by } = form.dataset;
  const conf = { entity, rule, action };
  if (action === "discard") {
    conf.by = by;
    conf.reason = form.elements.reason.value.trim();
    if (!conf.reason) {
      told.textContent = "Say why they are given up.";
      form.elements.reason.focus();
      return;
    }
  }
  const buttons = form.querySelectorAll("button");
  buttons.forEach((b) => (b.disabled = true));
  // The pages lie one folder below the place where Airflow is.
  const root = new URL("..", document.baseURI);
  try {
    const answer = await fetch(new URL(`api/v2/dags/${dag}/dagRuns`, root), {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ conf, logical_date: null }),
    });
    const run = await answer.json();
    if (!answer.ok) throw new Error(typeof run.detail === "string" ? run.detail : `Airflow answered ${answer.status}`);
    const link = document.createElement("a");
    link.href = new URL(`dags/${dag}/runs/${encodeURIComponent(run.dag_run_id)}`, root);
    link.target = "_top";
    link.textContent = run.dag_run_id;
    told.replaceChildren(`${action} begun: run `, link, ".");
  } catch (error) {
    told.textContent = `It has not begun: ${error.message}`;
  } finally {
    buttons.forEach((b) => (b.disabled = false));
  }
});
