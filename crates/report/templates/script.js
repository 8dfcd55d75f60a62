(() => {
  const passage = document.getElementById("passage");
  if (!passage) return;
  const readout = document.getElementById("readout");
  const tokens = [...passage.querySelectorAll(".t")];
  let at = -1;
  const show = (index) => {
    tokens[at]?.classList.remove("on");
    at = Math.max(0, Math.min(tokens.length - 1, index));
    const token = tokens[at], { h, s, m } = token.dataset;
    token.classList.add("on");
    const said = [
      h ? `entropy ${h} nats` : "not scored",
      s ? `surprisal ${s} nats` : "",
      m ? `masked: the model sees ${m}` : "not masked",
    ];
    const name = document.createElement("b");
    name.textContent = token.textContent;
    readout.replaceChildren(name, " — " + said.filter(Boolean).join(", "));
  };
  const pointed = (event) => {
    const index = tokens.indexOf(event.target.closest(".t"));
    if (index >= 0) show(index);
  };
  passage.addEventListener("pointerover", pointed);
  passage.addEventListener("click", pointed);
  passage.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    show(at + step);
  });
})();
