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
    command.args(["-q", "--tokens"]).arg(golden("tokens")).arg("--entropy").arg(golden("entropy"));
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
