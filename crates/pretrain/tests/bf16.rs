//! Matrix products in bf16, on processors that multiply in it.

#[expect(dead_code, reason = "the unit tests use the rest")]
mod fixture;
#[expect(dead_code, reason = "other tests use the rest")]
mod session;

use std::path::Path;

use anyhow::Result;
use entromask_kernels::has_bf16_products;
use session::{Session, assert_same_content, expect_failure, json, rows};

#[test]
fn in_bf16_a_run_is_nearly_the_same_where_the_processor_multiplies_in_it() -> Result<()> {
    let session = Session::new()?;
    let (masks, bf16) = (session.fixture.masks(0, 4)?, ["--dtype", "bf16"]);
    if !has_bf16_products() {
        return expect_failure(session.command(&masks, "model").args(bf16), 4, "AVX512_BF16");
    }
    let exact = session.train(&masks, "exact", &[])?;
    let whole = session.train(&masks, "whole", &bf16)?;
    let mut child = session.started(&masks, "killed", 30, &bf16)?;
    child.kill()?;
    child.wait()?;
    let resumed = session.train(&masks, "killed", &["--dtype", "bf16", "--threads", "1"])?;
    assert_same_content(&whole, &resumed)?;
    let key = |model: &Path| Ok::<_, anyhow::Error>(json(&model.join("manifest.json"))?["key"].clone());
    assert_ne!(key(&exact)?, key(&whole)?);
    let losses = |model: &Path| -> Result<Vec<f64>> {
        Ok(rows(model)?.iter().filter_map(|row| row["loss"].as_f64()).collect())
    };
    let (exact, found) = (losses(&exact)?, losses(&whole)?);
    assert_ne!(exact, found, "bf16 was used");
    assert_eq!((exact.len(), found.len()), (96, 96));
    for (exact, found) in exact.iter().zip(&found) {
        assert!((found / exact - 1.0).abs() < 0.01, "{found} {exact}");
    }
    Ok(())
}
