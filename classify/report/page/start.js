// Start the parts of the page: a run's when it is first shown.

const started = new Set();

function start(article) {
  if (started.has(article)) return;
  started.add(article);
  const data = JSON.parse(article.querySelector("script.data").textContent);
  const rows = new ScoredRows(data);
  const panel = new ThresholdPanel(article.querySelector(".thresholds"), data, rows);
  const gallery = article.querySelector(".gallery");
  if (gallery) new Gallery(gallery, data, rows);
  const course = article.querySelector(".training .charts");
  if (course) {
    for (const model of new Set(data.history.map((epoch) => epoch.model))) {
      const history = data.history.filter((epoch) => epoch.model === model);
      const name = `model ${model + 1}`;
      const charts = [training(`loss of ${name}: train rows dashed, validation rows solid`, "loss", history, "loss", "validation_loss"),
        training(`score of ${name} on validation rows`, "score", history, null, "validation_score")];
      course.append(...charts.filter(Boolean));
    }
  }
  article.report = { rows, panel };
}

function show(index) {
  document.querySelectorAll("article.run").forEach((article, i) => {
    article.hidden = i !== index;
    if (i === index) start(article);
  });
}

// After the first paint, which shows what needs no computing.
requestAnimationFrame(() => setTimeout(() => {
  const select = document.querySelector("#run");
  if (select) select.addEventListener("input", () => show(Number(select.value)));
  show(0);
  document.documentElement.dataset.ready = "yes";
}));
