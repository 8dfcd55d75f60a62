//! `entromask-report html`: the page's parts, and how a browser shows it.

mod fixture;

use std::path::{Path, PathBuf};
use std::process::Command;

use fixture::Fixture;

/// Set where a browser must be there, e.g. in continuous integration.
const REQUIRED: &str = "ENTROMASK_REQUIRE_CHROMIUM";

/// Runs in the page that embeds the report, once that is laid out, and leaves what it measured in the document.
const PROBE: &str = include_str!("probe.js");

const IDS: [&str; 20] = [
    "title",
    "lead",
    "facts",
    "loss",
    "validation",
    "accuracy",
    "perplexity",
    "rate",
    "legend",
    "passage",
    "readout",
    "histogram",
    "tokens",
    "hardest",
    "easiest",
    "most-masked",
    "glue",
    "config",
    "lineage",
    "reproduce",
];

fn report(fixture: &Fixture, flags: &[&str]) -> assert_cmd::assert::Assert {
    let mut command = assert_cmd::Command::cargo_bin("entromask-report").expect("built with the tests");
    command.current_dir(fixture.folder()).env_remove("RUST_LOG");
    command.arg("html").args(flags).assert()
}

fn page(fixture: &Fixture) -> anyhow::Result<String> {
    report(fixture, &["--model", "data/model-1", "--glue", "data/glue-1", "--out", "pages/run.html"])
        .success();
    // Slashes are escaped, too; the tests read better without.
    Ok(std::fs::read_to_string(fixture.folder().join("pages/run.html"))?.replace("&#x2f;", "/"))
}

fn message(assert: assert_cmd::assert::Assert, code: i32) -> String {
    String::from_utf8_lossy(&assert.failure().code(code).get_output().stderr).into_owned()
}

fn chromium() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let names = ["chromium", "chromium-browser", "google-chrome"];
    std::env::split_paths(&path).flat_map(|dir| names.map(|name| dir.join(name))).find(|file| file.is_file())
}

/// Shows the page in a frame of this width and returns what the probe measured.
fn measure(browser: &Path, html: &str, width: usize, dark: bool) -> anyhow::Result<serde_json::Value> {
    let folder = tempfile::tempdir()?;
    let embedded = html.replace('&', "&amp;").replace('"', "&quot;");
    let ids = serde_json::to_string(&IDS)?;
    let frame = format!(
        "<!doctype html><iframe style='width:{width}px;height:800px;border:0' srcdoc=\"{embedded}\"></iframe>\
         <script>const IDS = {ids};{PROBE}</script>"
    );
    let file = folder.path().join("frame.html");
    std::fs::write(&file, frame)?;
    let output = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .arg(format!("--user-data-dir={}", folder.path().join("profile").display()))
        .arg(format!("--blink-settings=preferredColorScheme={}", i32::from(!dark)))
        .args(["--virtual-time-budget=4000", "--window-size=1200,900", "--hide-scrollbars", "--dump-dom"])
        .arg(format!("file://{}", file.display()))
        .output()?;
    let dom = String::from_utf8_lossy(&output.stdout).into_owned();
    let measured = dom.split("<pre>").nth(1).and_then(|rest| rest.split("</pre>").next());
    let measured = measured
        .ok_or_else(|| anyhow::anyhow!("no measurement: {}", String::from_utf8_lossy(&output.stderr)))?;
    Ok(serde_json::from_str(&measured.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))?)
}

#[test]
#[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
fn a_browser_shows_every_part_on_phone_and_desktop_in_light_and_dark() -> anyhow::Result<()> {
    let Some(browser) = chromium() else {
        let required = std::env::var(REQUIRED).is_ok_and(|value| value == "1");
        assert!(!required, "{REQUIRED}=1, but there is no chromium in PATH");
        eprintln!("skipped: no chromium in PATH; {REQUIRED}=1 makes this a failure");
        return Ok(());
    };
    let html = page(&Fixture::new()?)?;
    let light = measure(&browser, &html, 375, false)?;
    for id in IDS {
        assert_eq!(light[format!("#{id}")], true, "#{id} is missing or empty: {light}");
    }
    assert_eq!(light["width"], 375, "the page scrolls sideways on a phone");
    assert_eq!(
        (light["loads"].as_u64(), &light["plots"], &light["headers"]),
        (Some(0), &true.into(), &true.into())
    );
    assert_eq!((light["tokens"].as_u64(), light["masked"].as_u64()), (Some(94), Some(15)));
    assert_eq!(light["outline"], "solid", "masked tokens are marked by more than colour");
    let said = light["readout"].as_str().unwrap_or_default();
    assert!(said.contains("entropy") && said.contains("nats") && said.contains("[MASK]"), "{said}");
    let dark = measure(&browser, &html, 1100, true)?;
    assert_ne!(light["background"], dark["background"]);
    assert_ne!(light["ink"], dark["ink"]);
    assert_eq!(dark["width"], 1100);
    Ok(())
}

#[test]
fn the_page_is_one_escaped_file_without_addresses() -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    let html = page(&fixture)?;
    assert!(!html.contains("http://") && !html.contains("https://") && !html.contains("@import"));
    assert!(html.contains("&lt;</span>") && html.contains("&amp;</span>"), "text is escaped");
    assert!(html.contains("BERT 2 × 128, self-masking</h1>") && html.contains("the second one chose them"));
    for part in [
        "--continue-from data/model-0",
        "--entropy data/entropy-1",
        "<dt>batch_<wbr>size</dt><dd>32</dd>",
        "<dt>policy.<wbr>name</dt>",
        "59.8 ± 0.8",
        "not clearly",
        "average of 2 tasks, not the official splits; floor 53.4",
        "not the official splits: QNLI (500 of 5463 to score)",
        "ln V = 10.33",
    ] {
        assert!(html.contains(part), "{part}");
    }
    assert!(
        html.contains("prediction for it. 15 of the 94 tokens are masked: those are boxed."),
        "sentences have a space between"
    );
    let left: Vec<_> = std::fs::read_dir(fixture.folder().join("pages"))?.collect();
    assert_eq!(left.len(), 1, "nothing half-written is left beside the page");
    Ok(())
}

#[test]
fn rounds_are_listed_in_order_with_all_their_stages() -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    let html = page(&fixture)?;
    let table =
        html.split("id=\"lineage\"").nth(1).expect("a table").split("</table>").next().expect("its end");
    let cells = table.split("<tr><td>").skip(1).map(|row| {
        let stage =
            row.split("scope=\"row\">").nth(1).and_then(|rest| rest.split('<').next()).unwrap_or_default();
        format!("{} {stage}", row.split('<').next().unwrap_or_default())
    });
    let expected = [
        "corpus tokens",
        "round 0 masks",
        "round 0 model",
        "round 1 entropy",
        "round 1 masks",
        "round 1 model",
        "fine-tuning glue",
    ];
    assert_eq!(cells.collect::<Vec<_>>(), expected);
    Ok(())
}

#[test]
fn what_is_gone_is_noted_on_the_page() -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    std::fs::remove_dir_all(fixture.dir("tokens"))?;
    let html = page(&fixture)?;
    assert!(html.contains("tokens: data/tokens is gone") && html.contains("No text is shown"));
    assert!(html.contains("id=\"loss\"") && html.contains("id=\"glue\""));
    assert!(html.contains("<span>at least, in the 6 stages that are still there</span>"));
    Ok(())
}

/// The last round names the model that it went on from, so that scores by it are not a teacher's.
#[test]
fn a_round_whose_first_model_is_gone_is_still_one_of_self_masking() -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    std::fs::remove_dir_all(fixture.dir("model-0"))?;
    let story = story(&fixture, "model-1")?;
    assert!(story.starts_with("BERT 2 × 128, self-masking\n"), "{story}");
    assert!(story.contains("own predictions (policy “high”); its first rounds are gone."), "{story}");
    Ok(())
}

#[test]
fn why_there_are_no_entropies_is_told() -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    let read = |model: &str| -> anyhow::Result<String> {
        report(&fixture, &["--model", &format!("data/{model}"), "--out", "page.html"]).success();
        Ok(std::fs::read_to_string(fixture.folder().join("page.html"))?)
    };
    fixture.make_masks_by("masks-s", 0, None, "span")?;
    fixture.make_model("model-s", "masks-s", None)?;
    assert!(read("model-s")?.contains("measured no entropies: its masks need none"));
    // Those of an earlier round, which are there, did not choose the masks of this one.
    fixture.make_entropy("entropy-2", "model-1", |nats| nats)?;
    fixture.make_masks("masks-2", 1, Some("entropy-2"))?;
    fixture.make_model("model-2", "masks-2", Some("model-1"))?;
    std::fs::remove_dir_all(fixture.dir("entropy-2"))?;
    let html = read("model-2")?;
    assert!(
        html.contains("The entropies that chose its masks are gone.") && !html.contains("id=\"histogram\"")
    );
    Ok(())
}

#[test]
fn tables_of_several_fine_tunings_have_names() -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    assert!(!page(&fixture)?.contains("<h3>glue-1</h3>"));
    fixture.make_glue("glue-2", "model-1")?;
    let glue = ["--glue", "data/glue-1", "--glue", "data/glue-2"];
    report(&fixture, &[&["--model", "data/model-1", "--out", "page.html"], &glue[..]].concat()).success();
    let html = std::fs::read_to_string(fixture.folder().join("page.html"))?;
    assert!(html.contains("<h3>glue-1</h3>") && html.contains("<h3>glue-2</h3>"));
    assert!(html.contains("glue-1: average of 2 tasks, not the official splits"));
    Ok(())
}

#[test]
fn a_run_on_random_masks_has_no_colours_but_a_page() -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    report(&fixture, &["--model", "data/model-0", "--out", "page.html", "--row", "33"]).success();
    let html = std::fs::read_to_string(fixture.folder().join("page.html"))?;
    assert!(html.contains("BERT 2 × 128, random masking</h1>") && html.contains("measured no entropies"));
    assert!(html.contains("Row 33 of the corpus") && html.contains("class=\"t m\""));
    assert!(!html.contains("id=\"glue\"") && !html.contains("id=\"histogram\""));
    Ok(())
}

/// The heading and the sentences below it.
fn story(fixture: &Fixture, model: &str) -> anyhow::Result<String> {
    report(fixture, &["--model", &format!("data/{model}"), "--out", "page.html"]).success();
    let html = std::fs::read_to_string(fixture.folder().join("page.html"))?;
    let lead = html.split_once("id=\"lead\"").and_then(|(_, rest)| rest.split_once("</p>"));
    let title = html.split_once("</h1>").map_or("", |(before, _)| before);
    Ok(format!("{}\n{}", title.rsplit('>').next().unwrap_or(""), lead.map_or("", |(lead, _)| lead)))
}

#[test]
fn policies_without_entropies_are_called_what_they_are() -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    for (policy, lead) in [
        ("random", "It masked 15\u{a0}% of the tokens at random."),
        ("frequency", "It masked 15\u{a0}% of the tokens by how rare they are (policy “frequency”)."),
        ("span", "It masked 15\u{a0}% of the tokens in spans of words at random places (policy “span”)."),
    ] {
        let [masks, model] = ["masks", "model"].map(|kind| format!("{kind}-{policy}"));
        fixture.make_masks_by(&masks, 0, None, policy)?;
        fixture.make_model(&model, &masks, None)?;
        let story = story(&fixture, &model)?;
        assert!(
            story.starts_with(&format!("BERT 2 × 128, {policy} masking\n")) && story.contains(lead),
            "{story}"
        );
        let online = serde_json::json!({"online": {"mask": {"rate": 0.2, "policy": {"name": policy}}}});
        fixture.make_model_from("model-o", [("masks", "masks-0")], &online)?;
        let story = self::story(&fixture, "model-o")?;
        assert!(story.starts_with(&format!("BERT 2 × 128, online {policy} masking\n")), "{story}");
    }
    Ok(())
}

#[test]
fn a_phase_with_other_masks_is_told() -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    let sources = [("masks", "masks-1"), ("init_masks", "masks-0")];
    for (transfer, lead) in [
        (
            serde_json::json!({"mode": "after-init", "init_fraction": 0.25}),
            "In the first 25\u{a0}% of the training it had other masks, chosen at random.",
        ),
        (
            serde_json::json!({"mode": "anneal", "init_fraction": 0.2, "init_tokens": 9000}),
            " tokens these masks took by degrees the place of others, chosen at random.",
        ),
    ] {
        fixture.make_model_from("model-p", sources, &serde_json::json!({"mask_transfer": transfer}))?;
        let story = story(&fixture, "model-p")?;
        assert!(
            story.contains("teacher masking") && story.contains("chosen by the entropy of a teacher"),
            "{story}"
        );
        assert!(story.contains(lead), "{story}");
    }
    assert!(!story(&fixture, "model-1")?.contains("other masks"));
    Ok(())
}

#[test]
fn a_teacher_is_part_of_the_lineage_and_may_be_gone() -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    fixture.make_model("model-t", "masks-1", None)?;
    let read = || -> anyhow::Result<String> {
        report(&fixture, &["--model", "data/model-t", "--out", "page.html"]).success();
        Ok(std::fs::read_to_string(fixture.folder().join("page.html"))?.replace("&#x2f;", "/"))
    };
    let html = read()?;
    assert!(html.contains("BERT 2 × 128, teacher masking</h1>"));
    assert!(html.contains("<tr><td>teacher</td><th scope=\"row\">model</th>"));
    std::fs::remove_dir_all(fixture.dir("model-0"))?;
    let html = read()?;
    assert!(html.contains("teacher masking</h1>") && html.contains("teacher: data/model-0 is gone"));
    Ok(())
}

/// The page about `model`, and the stages of its lineage as `teacher model`.
fn lineage(fixture: &Fixture, model: &str) -> anyhow::Result<(String, Vec<String>)> {
    report(fixture, &["--model", model, "--out", "page.html"]).success();
    let html = std::fs::read_to_string(fixture.folder().join("page.html"))?.replace("&#x2f;", "/");
    let rows = html.split("<tr><td>").skip(1).filter_map(|row| {
        let (group, rest) = row.split_once("</td><th scope=\"row\">")?;
        Some(format!("{group} {}", rest.split('<').next()?))
    });
    let rows = rows.collect();
    Ok((html, rows))
}

#[test]
fn answers_of_a_teacher_and_first_masks_are_part_of_the_lineage() -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    fixture.make_targets("targets", "masks-0", "model-0")?;
    let sources = [("init_masks", "masks-1"), ("masks", "masks-0"), ("targets", "targets")];
    fixture.make_model_from("model-c", sources, &serde_json::Value::Null)?;
    let (html, stages) = lineage(&fixture, "data/model-c")?;
    assert!(html.contains("with distillation</h1>") && html.contains("learned from the predictions"));
    for stage in ["teacher model", "round 0 targets", "round 0 entropy"] {
        assert!(stages.iter().any(|found| found == stage), "{stage} in {stages:?}");
    }
    assert_eq!(stages.iter().filter(|stage| stage.ends_with(" masks")).count(), 2, "{stages:?}");
    Ok(())
}

#[test]
fn masks_chosen_in_training_are_not_those_that_it_began_with() -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    let online = serde_json::json!({"mode": "step", "mask": {"rate": 0.2, "policy": {"name": "sample"}}});
    fixture.make_model_from("model-o", [("masks", "masks-0")], &serde_json::json!({"online": online}))?;
    let (html, _) = lineage(&fixture, "data/model-o")?;
    assert!(html.contains("BERT 2 × 128, online self-masking</h1>") && html.contains("policy “sample”"));
    assert!(html.contains("masked 20\u{a0}% of the tokens, chosen by the entropy of its own predictions"));
    assert!(html.contains("<code>masks.jsonl</code>") && !html.contains("measured no entropies"));
    assert!(!html.contains("class=\"t m\"") && !html.contains("tokens are masked"));
    Ok(())
}

#[test]
fn mistakes_are_named_and_leave_no_page() -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    fixture.make_glue("glue-0", "model-0")?;
    let html =
        |model: &str, glue: &str| report(&fixture, &["--model", model, "--glue", glue, "--out", "page.html"]);
    let other = message(html("data/model-1", "data/glue-0"), 3);
    assert!(other.contains("data/glue-0") && other.contains("fine-tune this model"), "{other}");
    let results = fixture.dir("glue-1").join("results.json");
    let text = std::fs::read_to_string(&results)?;
    std::fs::write(&results, text.replacen('5', "9", 1))?;
    assert!(message(html("data/model-1", "data/glue-1"), 3).contains("results.json"));
    std::fs::write(&results, text)?;
    let log = fixture.dir("model-0").join("metrics.jsonl");
    let text = std::fs::read_to_string(&log)?;
    std::fs::write(&log, text.replacen("\"step\":2", "\"step\":3", 1))?;
    assert!(message(html("data/model-1", "data/glue-1"), 3).contains("metrics.jsonl"));
    std::fs::write(&log, text)?;
    assert!(message(html("data/nowhere", "data/glue-1"), 3).contains("nowhere"));
    assert!(message(html("data/tokens", "data/glue-1"), 3).contains("expected an artifact of kind model"));
    std::fs::remove_file(fixture.dir("model-0").join("manifest.json"))?;
    assert!(message(html("data/model-0", "data/glue-0"), 3).contains("has no history"));
    assert!(!fixture.folder().join("page.html").exists());
    let blocked = ["--model", "data/model-1", "--out", "data/model-1/config.json/page.html"];
    assert!(message(report(&fixture, &blocked), 2).contains("cannot write"));
    Ok(())
}
