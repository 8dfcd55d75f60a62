//! Bad input: exit code, what was found, the remedy, and nothing left behind.

use serde_json::json;

use crate::world::{VOCAB, World, tokenizer, write_model, write_tokens};

#[test]
fn usage() {
    let world = World::new();
    refused(&world, 2, &["--set", "fold=3"], &["fold"]);
    refused(&world, 2, &["--set", "folds=0"], &["folds = 0"]);
    refused(&world, 2, &["--set", "conditioning=some"], &["some", "kfold"]);
    refused(&world, 2, &["--set", "fraction=1.5"], &["fraction = 1.5"]);
    refused(&world, 2, &["--device", "tpu"], &["tpu", "cuda"]);
    refused(&world, 2, &["--device", "cuda:0,1"], &["cuda:0,1", "on one"]);
    refused(&world, 2, &["--dtype", "f8"], &["f8", "f32"]);
    refused(&world, 2, &["--threads", "0"], &["thread"]);
}

#[test]
fn flags_without_a_meaning() {
    let world = World::new();
    let cases = [
        ("fidelity", vec!["--dry-run"]),
        ("fidelity", vec!["--out", "nowhere"]),
        ("logits", vec!["--dry-run", "--out", "nowhere"]),
        ("logits", vec!["--set", "folds=3", "--out", "nowhere"]),
        ("fidelity", vec!["--set rows", "--set", "rows=1"]),
        ("fidelity", vec!["--set fraction", "--set", "folds=3", "--set", "fraction = 0.5"]),
        ("fidelity", vec!["--set measures", "--set", "measures=['margin']"]),
    ];
    for (command, more) in cases {
        let mut program = world.command();
        program.arg(command).arg("--tokens").arg(world.path("tokens"));
        let flags = more.iter().filter(|flag| !flag.starts_with("--set "));
        let done = program.arg("--model").arg(world.path("model")).args(flags).assert().code(2);
        let stderr = String::from_utf8_lossy(&done.get_output().stderr).into_owned();
        assert!(stderr.contains(&format!("{command} has no use for {}", more[0])), "{stderr}");
    }
    assert!(!world.path("nowhere").exists());
}

#[test]
fn what_is_read_is_not_written_over() {
    let world = World::new();
    let files = |name: &str| {
        let mut files: Vec<_> = std::fs::read_dir(world.path(name)).expect("a folder").flatten().collect();
        files.sort_by_key(std::fs::DirEntry::file_name);
        files.iter().map(|file| fs_err::read(file.path()).expect("reads")).collect::<Vec<_>>()
    };
    for (out, words) in [("tokens", "the input `tokens`"), ("model", "the input `teacher`")] {
        let before = files(out);
        for more in [&[][..], &["--dry-run"], &["--shard", "1/2"], &["--finalize"]] {
            let done = world.score(out, more).assert().code(2);
            assert!(String::from_utf8_lossy(&done.get_output().stderr).contains(words), "{out} {more:?}");
        }
        let inside = if out == "model" { "model.safetensors" } else { "new.safetensors" };
        let (link, read) = (
            world.path(&format!("link-{out}")),
            if out == "model" { "config.json" } else { "manifest.json" },
        );
        std::os::unix::fs::symlink(world.path(out).join(read), &link).expect("links");
        for path in [world.path(out).join(inside), link] {
            let mut program = world.command();
            program.arg("logits").arg("--tokens").arg(world.path("tokens"));
            let done =
                program.arg("--model").arg(world.path("model")).arg("--out").arg(path).assert().code(2);
            assert!(String::from_utf8_lossy(&done.get_output().stderr).contains("which is read"), "{out}");
        }
        assert!(files(out) == before, "{out} is as it was");
    }
}

#[test]
fn a_device_that_is_not_there() {
    let world = World::new();
    if !entromask_device::compiled().contains(&"cuda") {
        refused(&world, 4, &["--device", "cuda"], &["cuda", "--features"]);
    }
}

#[test]
fn missing_inputs() {
    let world = World::new();
    fs_err::remove_file(world.path("tokens").join("manifest.json")).expect("removes");
    refused(&world, 3, &[], &["manifest.json"]);
    let world = World::new();
    fs_err::remove_file(world.path("model").join("model.safetensors")).expect("removes");
    refused(&world, 3, &[], &["model: no model.safetensors and no pytorch_model.bin; name a folder"]);
}

#[test]
fn a_damaged_part() {
    let world = World::new();
    let tokens = world.path("tokens");
    let manifest = entromask_artifact::Manifest::load_any(&tokens).expect("a manifest");
    let part = tokens.join(&manifest.parts("part").next().expect("a part").file);
    let bytes = fs_err::read(&part).expect("reads");
    fs_err::write(&part, &bytes[..bytes.len() / 2]).expect("writes");
    refused(&world, 3, &[], &["part-", "bytes"]);
}

#[test]
fn logits_of_tokens_that_are_not_what_their_manifest_says() {
    let world = World::new();
    let logits = || {
        let mut command = world.command();
        command.args(["logits", "--out", "logits.safetensors"]).arg("--tokens").arg(world.path("tokens"));
        command.arg("--model").arg(world.path("model"));
        command.assert()
    };
    let manifest = entromask_artifact::Manifest::load_any(&world.path("tokens")).expect("a manifest");
    let part = &manifest.outputs[0].file;
    for file in ["tokens/tokenizer.json".to_owned(), format!("tokens/{part}")] {
        let whole = fs_err::read(world.path(&file)).expect("reads");
        world.damage(&file, 1);
        let done = logits().code(3);
        let said = String::from_utf8_lossy(&done.get_output().stderr).into_owned();
        assert!(said.contains(&format!("{file}: the manifest says blake3")), "{said}");
        assert!(!world.path("logits.safetensors").exists());
        fs_err::write(world.path(&file), whole).expect("writes");
    }
    logits().success();
}

#[test]
fn a_model_that_is_not_what_its_manifest_says() {
    for (file, at) in [("model.safetensors", 2), ("config.json", 2), ("tokenizer.json", 1)] {
        let world = World::new();
        world.publish_model();
        world.score("good", &[]).assert().success();
        world.damage(&format!("model/{file}"), at);
        refused(&world, 3, &[], &[file, "the manifest says blake3", "delete it"]);
        for more in [&["fidelity"][..], &["logits", "--out", "logits.safetensors"]] {
            let mut command = world.command();
            command.args(more).arg("--tokens").arg(world.path("tokens"));
            let done = command.arg("--model").arg(world.path("model")).assert().code(3);
            assert!(String::from_utf8_lossy(&done.get_output().stderr).contains(file), "{more:?} {file}");
        }
    }
}

#[test]
fn a_model_of_another_vocabulary() {
    let world = World::new();
    write_model(&world.path("model"), VOCAB - 1);
    refused(&world, 3, &[], &["50", "49", "tokenizer"]);
    let world = World::new();
    fs_err::write(world.path("model").join("tokenizer.json"), tokenizer("word")).expect("writes");
    refused(&world, 3, &[], &["tokenizer.json", "not a tokenizer"]);
}

/// Before the tokens are there.
#[test]
fn a_model_without_a_head_is_found_by_a_dry_run() {
    let world = World::new();
    let path = world.path("model/model.safetensors");
    let (head, other) = (&b"transform.dense.weight"[..], b"transform.other.weight");
    let mut bytes = fs_err::read(&path).expect("reads");
    let at = bytes.windows(head.len()).position(|window| window == head).expect("the head's tensor");
    bytes[at..at + head.len()].copy_from_slice(other);
    fs_err::write(&path, bytes).expect("writes");
    fs_err::write(world.path("pending"), world.path("tokens").display().to_string()).expect("writes");
    let pending = world.path("pending").display().to_string();
    refused(&world, 3, &["--dry-run", "--pending", &pending], &["no masked-LM head", "BertForMaskedLM"]);
}

#[test]
fn tokens_beyond_the_model_although_the_manifest_denies_it() {
    let world = World::new();
    fs_err::remove_dir_all(world.path("tokens")).expect("removes");
    write_tokens(&world.path("tokens"), 30);
    write_model(&world.path("model"), 30);
    refused(&world, 3, &[], &["the model knows 30"]);
}

#[test]
fn a_folder_from_elsewhere() {
    let world = World::new();
    fs_err::write(world.path("model/manifest.json"), r#"{"name": "an app"}"#).expect("writes");
    refused(&world, 3, &[], &["manifest.json: not a manifest", "give that file another name"]);
    let world = World::new();
    fs_err::remove_file(world.path("model/tokenizer.json")).expect("removes");
    fs_err::write(world.path("model/vocab.txt"), b"[PAD]\n\xff\xfe\n").expect("writes");
    refused(&world, 3, &[], &["vocab.txt", "UTF-8"]);
}

#[test]
fn tensors_that_nothing_reads_are_named() {
    let world = World::new();
    let file = world.path("model/model.safetensors");
    let bytes = fs_err::read(&file).expect("reads");
    let start = 8 + u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes")) as usize;
    let header = String::from_utf8(bytes[8..start].to_vec()).expect("UTF-8");
    let header = header.trim_end();
    let extra = r#""bert.encoder.layer.1.adapter.weight":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},"#;
    let header = header.replacen('{', &format!("{{{extra}"), 1);
    let padded = format!("{header:width$}", width = header.len().next_multiple_of(8));
    let size = (padded.len() as u64).to_le_bytes();
    fs_err::write(&file, [&size[..], padded.as_bytes(), &bytes[start..]].concat()).expect("writes");
    let done = world.score("out", &[]).assert().success();
    let stderr = String::from_utf8_lossy(&done.get_output().stderr).into_owned();
    assert!(stderr.contains("not read: 1, the first is bert.encoder.layer.1.adapter.weight"), "{stderr}");
}

#[test]
fn a_mask_token_beyond_the_model() {
    let world = World::new();
    world.edit_json("tokens/manifest.json", |manifest| manifest["stats"]["special"]["mask"] = json!(VOCAB));
    refused(&world, 3, &[], &["model: knows tokens 0 to 49, but the mask token is 50", "tokenizer.json"]);
}

/// All weights are finite, what is computed with them is not.
#[test]
fn a_forward_pass_that_overflows() {
    let overflows = [
        ("bert.encoder.layer.1.intermediate.dense.weight", 3e38),
        ("cls.predictions.transform.LayerNorm.weight", 1e38),
    ];
    for (tensor, value) in overflows {
        let world = World::new();
        world.overwrite_tensor(tensor, value);
        let words = ["/model: what it computes at row", "position", "not finite"];
        refused(&world, 3, &[], &words);
        refused(&world, 3, &["--set", r#"measures=["margin"]"#], &words);
        let mut command = world.command();
        command.arg("fidelity").arg("--tokens").arg(world.path("tokens"));
        let done = command.arg("--model").arg(world.path("model")).assert().code(3);
        assert!(String::from_utf8_lossy(&done.get_output().stderr).contains("not finite"));
    }
}

#[test]
fn an_artifact_of_another_kind() {
    let world = World::new();
    let mut command = world.command();
    command.arg("--tokens").arg(world.path("tokens")).arg("--model").arg(world.path("tokens"));
    let done = command.arg("--out").arg(world.path("out")).assert().code(3);
    assert!(
        String::from_utf8_lossy(&done.get_output().stderr).contains("expected an artifact of kind model")
    );
}

fn refused(world: &World, code: i32, more: &[&str], words: &[&str]) {
    let done = world.score("out", more).assert().code(code);
    let stderr = String::from_utf8_lossy(&done.get_output().stderr).into_owned();
    for word in words {
        assert!(stderr.contains(word), "{word:?} is not in: {stderr}");
    }
    let left: Vec<_> = std::fs::read_dir(world.path("out")).into_iter().flatten().flatten().collect();
    assert!(left.iter().all(|entry| entry.file_name() == ".lock"), "left behind: {left:?}");
}
