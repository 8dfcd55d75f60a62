//! What is wrong is named, with its exit code, and leaves no artifact.

use anyhow::Result;
use entromask_artifact::{Kind, Manifest};
use entromask_tables::Entropies;

use crate::world::{World, make_entropies, make_tokens};

/// Runs with the entropies called `entropy` and expects the exit code and a message with all of `named`.
fn refused(world: &World, entropy: &str, arguments: &[&str], code: i32, named: &[&str]) {
    let mut command = world.bare("bad");
    if !entropy.is_empty() {
        command.arg("--entropy").arg(world.path(entropy));
    }
    let output = command.args(arguments).assert().code(code);
    let message = String::from_utf8_lossy(&output.get_output().stderr).into_owned();
    assert!(named.iter().all(|named| message.contains(named)), "{arguments:?}: {message}");
    assert!(!world.path("bad").join("manifest.json").exists());
}

#[test]
fn configurations_are_refused_with_key_and_value() -> Result<()> {
    let world = World::new()?;
    let cases: &[(&str, &[&str])] = &[
        ("rate=0", &["rate = 0", "above 0 and at most 1"]),
        ("rate=1.5", &["rate = 1.5"]),
        ("rate=-0.1", &["rate = -0.1"]),
        ("rate=nan", &["rate = NaN"]),
        (r#"rate={shape="linear", from=0.1, to=2, epochs=4}"#, &["rate = 2"]),
        (r#"rate={shape="linear", from=0.1, to=0.2, epochs=1}"#, &["rate.epochs = 1"]),
        (r#"rate={shape="zigzag"}"#, &["zigzag", "linear", "cosine", "step"]),
        (r#"rate={shape="step", values=[], every=1}"#, &["0 values"]),
        ("rate=often", &["often", "a number, or a table"]),
        ("epochs=0", &["epochs = 0"]),
        (
            "policy.name=best",
            &["best", "random", "high", "low", "band", "sample", "mixed", "frequency", "span", "reducible"],
        ),
        ("policy={name=\"high\", temperature=1}", &["temperature"]),
        ("polisy=1", &["polisy"]),
        ("policy={name=\"sample\", temperature=0}", &["policy.temperature = 0"]),
        ("policy={name=\"mixed\", temperature=1, share=1.2}", &["policy.share = 1.2"]),
        ("policy={name=\"band\", lo=0.6, hi=0.4}", &["0.6 to 0.4"]),
        ("policy={name=\"band\", lo=0.4, hi=0.5}", &["policy.hi - policy.lo", "0.15"]),
        ("policy={name=\"frequency\", smoothing=-1}", &["policy.smoothing = -1"]),
        ("policy={name=\"span\", p=0}", &["policy.p = 0"]),
        ("policy={name=\"span\", longest=0}", &["policy.longest = 0"]),
        ("cap=0", &["cap = 0"]),
        ("spread={share=0.5, window=1}", &["spread.window = 1"]),
        ("spread={share=1.5, window=5}", &["spread.share = 1.5"]),
        ("spread={share=0.5}", &["window"]),
        ("whole_word=median", &["median", "max", "mean"]),
        (r#"exclude=["word"]"#, &["exclude = word", "punctuation"]),
        ("budget=corpus", &["corpus", "row", "shard"]),
        ("shortfall=ignore", &["ignore", "relax", "accept", "fail"]),
        ("corruption.mask=0.5", &["corruption"]),
        ("corruption={mask=0.8, random=0.1, keep=0.2}", &["corruption", "1.1"]),
    ];
    for (set, named) in cases {
        refused(&world, "", &["--set", set], 2, named);
    }
    refused(&world, "", &["--device", "cuda"], 2, &["no use for --device"]);
    Ok(())
}

#[test]
fn entropies_of_another_origin_are_refused() -> Result<()> {
    let world = World::new()?;
    let other = make_tokens(&world.path("other"), "second")?;
    make_entropies(&world.path("of-other"), &world.path("other"), &other, |_, word| Some(word))?;
    let of_other = world.path("of-other").display().to_string();
    let high = ["--set", "policy.name=high"];
    let reducible = ["--set", "policy.name=reducible"];
    let contents = [other.content.as_str(), "scores the tokens"];
    refused(&world, "of-other", &high, 3, &contents);
    refused(&world, "entropy", &[&reducible[..], &["--reference", &of_other]].concat(), 3, &contents);
    refused(&world, "", &high, 2, &["`high` needs entropies", "--entropy"]);
    refused(&world, "entropy", &reducible, 2, &["`reducible` needs entropies", "--reference"]);
    let itself = world.path("entropy").display().to_string();
    let same = ["hold the same entropies", "--reference"];
    refused(&world, "entropy", &[&reducible[..], &["--reference", &itself]].concat(), 2, &same);
    let tokens = world.path("tokens").display().to_string();
    let early = [&reducible[..], &["--reference", &tokens, "--dry-run"]].concat();
    refused(&world, "entropy", &early, 3, &["expected an artifact of kind entropy"]);
    refused(&world, "nowhere", &high, 3, &["manifest.json"]);
    refused(&world, "tokens", &high, 3, &["expected an artifact of kind entropy"]);
    refused(
        &world,
        "entropy",
        &[&high[..], &["--set", "measure=renyi2"]].concat(),
        3,
        &["no column `renyi2`", "entropy, surprisal"],
    );
    refused(
        &world,
        "entropy",
        &[&high[..], &["--set", "measure=row"]].concat(),
        2,
        &["measure = row; give one of entropy, surprisal, min_entropy"],
    );
    Ok(())
}

/// Masks would be random, without a word.
#[test]
fn entropies_that_the_policy_does_not_read_are_refused() -> Result<()> {
    let world = World::new()?;
    for (policy, name) in [(None, "random"), (Some("span"), "span"), (Some("frequency"), "frequency")] {
        let set: Vec<_> = policy.map(|policy| format!("policy.name={policy}")).into_iter().collect();
        let set: Vec<_> = set.iter().flat_map(|set| ["--set", set]).collect();
        let words = ["--entropy", "nowhere", &format!("policy.name = {name} does not read entropies")];
        refused(&world, "nowhere", &set, 2, &words);
        refused(&world, "nowhere", &[&set[..], &["--dry-run"]].concat(), 2, &words);
    }
    Ok(())
}

#[test]
fn a_reference_that_the_policy_does_not_read_is_refused() -> Result<()> {
    let world = World::new()?;
    world.score("scores", |_, word| Some(word))?;
    let set = ["--set", "policy.name=high", "--reference", "nowhere"];
    let words = [
        "--reference nowhere",
        "policy.name = high does not read entropies of a reference",
        "leave --reference out",
    ];
    refused(&world, "scores", &set, 2, &words);
    refused(&world, "scores", &[&set[..], &["--dry-run"]].concat(), 2, &words);
    Ok(())
}

#[test]
fn rows_without_scores_are_refused() -> Result<()> {
    let world = World::new()?;
    let high = ["--set", "policy.name=high"];
    world.score("holes", |_, word| (word < 20.0).then_some(word))?;
    refused(&world, "holes", &high, 3, &["row 11", "without a score in `entropy`"]);
    world.score("null-row", |row, word| (row != 7).then_some(word))?;
    refused(&world, "null-row", &high, 3, &["row 7", "without a score"]);
    world.score("nan", |row, word| Some(if row == 45 { f32::NAN } else { word }))?;
    refused(&world, "nan", &high, 3, &["row 45", "without a score"]);
    world.score("infinite", |_, word| Some(1.0 / word))?;
    refused(&world, "infinite", &high, 3, &["row 0", "without a score"]);
    Ok(())
}

/// The file's digest is in the manifest, so only a scorer gone wrong could do this.
#[test]
fn rows_that_do_not_match_are_refused() -> Result<()> {
    type Damage = fn(&mut Entropies);
    let damage: [(&str, Damage); 3] = [
        ("its rows are not those of the tokens", |part| part.row[3] = 99),
        ("its rows are not those of the tokens", |part| {
            part.row.pop();
            part.entropy.offsets.pop();
            part.surprisal.offsets.pop();
        }),
        ("row 0 has tokens without a score", |part| {
            part.entropy.offsets[1] -= 1;
        }),
    ];
    for (named, damage) in damage {
        let world = World::new()?;
        let dir = world.path("entropy");
        let mut manifest = Manifest::load(&dir, Kind::Entropy)?;
        let part = dir.join(&manifest.outputs[0].file);
        let mut table = Entropies::read(&part)?;
        damage(&mut table);
        let last = *table.entropy.offsets.last().expect("one more than rows") as usize;
        table.entropy.values.truncate(last);
        table.surprisal.values.truncate(*table.surprisal.offsets.last().expect("one more") as usize);
        table.write(&part, &[])?;
        manifest.outputs[0].bytes = std::fs::metadata(&part)?.len();
        manifest.outputs[0].blake3 = blake3::hash(&std::fs::read(&part)?).to_hex().to_string();
        std::fs::write(dir.join("manifest.json"), serde_json::to_vec(&manifest)?)?;
        refused(&world, "entropy", &["--set", "policy.name=high"], 3, &[named, &manifest.outputs[0].file]);
    }
    Ok(())
}

#[test]
fn an_impossible_budget_fails_or_is_relaxed_and_reported() -> Result<()> {
    let world = World::new()?;
    // Row 0 has 10 tokens and a budget of 5; one in any ten positions may be masked.
    let strict = ["--set", "rate=0.5", "--set", "spread={share=0.1, window=10}", "--set", "policy.name=high"];
    let with = |shortfall: &'static str| [&strict[..], &["--set", shortfall]].concat();
    refused(
        &world,
        "entropy",
        &with("shortfall=fail"),
        2,
        &["row 0, epoch 0: cap and spread leave 4 tokens", "relax"],
    );
    let part = [&with("shortfall=fail")[..], &["--set", "budget=shard"]].concat();
    refused(&world, "entropy", &part, 2, &["the part that begins with row 0"]);
    for (out, shortfall) in [("relaxed", "shortfall=relax"), ("accepted", "shortfall=accept")] {
        let output = world.select(out, &with(shortfall)).assert().success();
        let line = String::from_utf8_lossy(&output.get_output().stdout).into_owned();
        assert!(line.contains("beyond cap or spread") || line.contains("of the budget not spent"), "{line}");
    }
    let (relaxed, accepted) = (world.report("relaxed")?, world.report("accepted")?);
    assert_eq!((relaxed["short"].as_u64(), accepted["relaxed"].as_u64()), (Some(0), Some(0)));
    assert!(relaxed["relaxed"].as_u64() > Some(0));
    assert_eq!(relaxed["relaxed"], accepted["short"]);
    assert_eq!(world.masks("accepted", 0)?[0].positions.row(0).len(), 1);
    Ok(())
}

#[test]
fn classes_need_the_tokenizer() -> Result<()> {
    let world = World::new()?;
    std::fs::remove_file(world.path("tokens").join("tokenizer.json"))?;
    refused(
        &world,
        "",
        &["--set", r#"exclude=["digits"]"#],
        3,
        &["tokenizer.json", "tokenize the corpus again"],
    );
    world.bare("without").assert().success();
    assert_eq!(world.report("without")?["classes"].as_array().map(Vec::len), Some(0));
    Ok(())
}

#[test]
fn a_damaged_part_is_named() -> Result<()> {
    let world = World::new()?;
    let manifest = Manifest::load(&world.path("tokens"), Kind::Tokens)?;
    let part = world.path("tokens").join(&manifest.outputs[1].file);
    let mut bytes = std::fs::read(&part)?;
    bytes[100] ^= 1;
    std::fs::write(&part, bytes)?;
    let file = manifest.outputs[1].file.as_str();
    refused(&world, "", &[], 3, &[file, "delete it"]);
    Ok(())
}

#[test]
fn a_tokenizer_that_is_not_what_its_manifest_says_is_refused() -> Result<()> {
    let world = World::new()?;
    let path = world.path("tokens").join("tokenizer.json");
    let text = std::fs::read_to_string(&path)?;
    let (before, after) = text.rsplit_once("[MASK]").expect("a mask token");
    std::fs::write(&path, format!("{before}[MAsK]{after}"))?;
    refused(&world, "", &[], 3, &["tokenizer.json: the manifest says blake3"]);
    Ok(())
}
