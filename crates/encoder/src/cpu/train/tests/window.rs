//! Rows that are longer than the window of local layers.

use super::dropout::assert_slope;
use super::*;

/// More than there are lanes, unlike ones in each of them.
const LONG: [usize; 9] = [301, 2, 150, 64, 257, 9, 128, 3, 200];

/// The last layer, of which a part is computed only, is local as well.
fn local(local_attention: usize) -> EncoderConfig {
    modern(ModernBertConfig { local_attention, ..ModernBertConfig::default() })
}

#[test]
fn long_rows_are_those_of_automatic_differentiation() {
    for window in [0, 1, 5, 128] {
        assert_same_as_tensors(&local(window), &rows_of(&LONG));
    }
}

#[test]
fn gradients_of_long_rows_with_dropout_are_those_of_finite_differences() {
    for window in [0, 5, 128] {
        assert_slope(&local(window).with_dropout(0.3), &rows_of(&LONG));
    }
}

#[test]
fn what_a_long_row_drops_depends_on_its_number_only() {
    let config = local(16).with_dropout(0.3);
    let body = TrainedBody::new(&MaskedLm::init(&config, 3, &Device::flex()).encoder, &config);
    let rows = rows_of(&LONG);
    let states = |first_row: usize, count: usize| {
        let dropout = Some(Dropout { seed: 1, first_row });
        body.forward(&rows.wanted()[first_row..first_row + count], &[], dropout, &mut Lanes::default()).last
    };
    assert_eq!([states(0, 2), states(2, 7)].concat(), states(0, 9));
}

#[test]
fn threads_change_no_bit_of_long_rows() {
    assert_same_on_threads(&local(16).with_dropout(0.3), &rows_of(&LONG));
}
