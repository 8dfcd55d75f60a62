//! Where tokens stand in their row.

/// Row of the table of positions for each token of `ids`, from 0 on. Where `padding` is not counted, as in RoBERTa, it has the
/// first row wherever a text spells it, and the others count from 1 on: `create_position_ids_from_input_ids` of
/// `transformers`, less the number of the padding token.
pub(crate) fn places(ids: &[u32], padding: Option<u32>) -> impl Iterator<Item = usize> + Clone {
    let mut next = usize::from(padding.is_some());
    ids.iter().map(move |&id| {
        if Some(id) == padding {
            return 0;
        }
        next += 1;
        next - 1
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_that_a_text_spells_is_not_counted() {
        let ids = [0, 7, 1, 1, 9, 2];
        assert!(places(&ids, None).eq(0..6));
        // (ids != 1).cumsum() * (ids != 1)
        assert!(places(&ids, Some(1)).eq([1, 2, 0, 0, 3, 4]));
    }
}
