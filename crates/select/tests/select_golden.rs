//! What could be configured when format 1 was fixed still has the key and the bytes that it had then.

use std::path::{Path, PathBuf};

use assert_cmd::Command;
use entromask_artifact::{Kind, Manifest};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/format-1").join(name)
}

/// Masks made from the golden tokens and entropies.
fn masks(set: &[&str]) -> anyhow::Result<Manifest> {
    let folder = tempfile::tempdir()?;
    let mut command = Command::cargo_bin("entromask-select")?;
    command.args(["-q", "--tokens"]).arg(golden("tokens"));
    let reads = |policy| set.iter().any(|value| value.contains(&format!("name = \"{policy}\"")));
    if ["high", "low", "band", "sample", "mixed"].into_iter().any(reads) {
        command.arg("--entropy").arg(golden("entropy"));
    }
    command.arg("--out").arg(folder.path()).args(set.iter().flat_map(|value| ["--set", value]));
    command.assert().success();
    Manifest::load(folder.path(), Kind::Masks)
}

#[test]
fn the_golden_masks_are_made_again() -> anyhow::Result<()> {
    let (golden, made) = (Manifest::load(&golden("masks"), Kind::Masks)?, masks(&["epochs=1"])?);
    assert_eq!((made.key, made.config, made.content), (golden.key, golden.config, golden.content));
    Ok(())
}

/// The first digits of key and content were written down when there were these five policies and no options.
#[test]
fn policies_of_format_1_keep_their_keys_and_bytes() -> anyhow::Result<()> {
    let cases = [
        (r#"{name = "random"}"#, "67eaccf216801f15", "d3d3effe56b8cd09"),
        (r#"{name = "high"}"#, "42cf69d91d69a92b", "b8581e54c7290629"),
        (r#"{name = "low"}"#, "bbea47dae5738abd", "63dab38ef60a0628"),
        (r#"{name = "sample", temperature = 0.7}"#, "0a96584292de7a11", "06cd99e5da377196"),
        (r#"{name = "mixed", share = 0.4, temperature = 1}"#, "566189be1d0e4f0c", "fa196a1504e498f6"),
    ];
    for (policy, key, content) in cases {
        let policy = format!("policy={policy}");
        let made = masks(&[&policy, "epochs=3", "corruption={mask=0.8, random=0.1, keep=0.1}"])?;
        assert_eq!((&made.key[..16], &made.content[..16]), (key, content), "{policy}");
    }
    Ok(())
}

/// The first digits of content were written down before selection was made faster, so they hold what each option makes of
/// each kind of order: lasting and drawn, of tokens and words, of a row and a part, with offers turned down and without.
#[test]
fn options_keep_their_bytes() -> anyhow::Result<()> {
    const SAMPLE: &str = r#"policy={name = "sample", temperature = 0.7}"#;
    const BAND: &str = r#"policy={name = "band", lo = 0.5, hi = 0.9}"#;
    let cases: [(&[&str], &str); 12] = [
        (&[BAND], "931c56784799e16d"),
        (&[r#"policy={name = "frequency"}"#], "08a7b7bf892b5002"),
        (&[r#"policy={name = "span"}"#], "a4748fcb166573d0"),
        (&[r#"policy={name = "high"}"#, "cap=0.1", "spread={share=0.4, window=10}"], "386d028d2c575a96"),
        (&[SAMPLE, "cap=0.1", "spread={share=0.3, window=10}"], "a75c53b2090c6797"),
        (&[SAMPLE, "cap=0.1", "spread={share=0.3, window=10}", r#"budget="shard""#], "6a0505094a2b3036"),
        (&[SAMPLE, "cap=0.1", "spread={share=0.1, window=10}", "rate=0.3"], "ed9545872b30b9e3"),
        (
            &[SAMPLE, "cap=0.02", "spread={share=0.15, window=20}", r#"shortfall="accept""#],
            "a37d151334cedd27",
        ),
        (&[SAMPLE, r#"whole_word="max""#, "cap=0.1"], "c46d29b3fea9f2c7"),
        (&[BAND, r#"whole_word="mean""#, "spread={share=0.4, window=10}"], "0cce840ac68a015c"),
        (
            &[r#"policy={name = "mixed", share = 0.5, temperature = 1}"#, r#"budget="shard""#],
            "23139f25596ba066",
        ),
        (
            &[r#"policy={name = "span"}"#, r#"whole_word="max""#, "spread={share=0.5, window=10}"],
            "07d724f65ed4acab",
        ),
    ];
    for (options, content) in cases {
        let always = ["epochs=3", "corruption={mask=0.8, random=0.1, keep=0.1}"];
        let made = masks(&[options, &always].concat())?;
        assert_eq!(&made.content[..16], content, "{options:?}");
    }
    Ok(())
}
