//! Runs that diverge.

use entromask_fault::Fault;

const DIVERGED: &str = "training diverged";

/// A fault of class failed with what was `found`, and the remedy; `also` is one more.
pub fn diverged(found: &str, also: &str) -> anyhow::Error {
    let remedy = format!("lower lr or clip, or lengthen warmup{also}");
    Fault::failed(format!("{DIVERGED}: {found}")).remedy(remedy).into()
}

/// Whether that is what went wrong.
pub fn is_divergence(error: &anyhow::Error) -> bool {
    error.chain().any(|link| link.to_string().starts_with(DIVERGED))
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn it_is_known_behind_other_words() {
        let error = Err::<(), _>(diverged("the loss is NaN", "")).context("step 7").unwrap_err();
        assert!(is_divergence(&error), "{error:#}");
        assert!(!is_divergence(&Fault::failed("no space").into()));
    }
}
