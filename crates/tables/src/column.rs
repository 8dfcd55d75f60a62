//! Between our columns and Arrow's arrays.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, ListArray, PrimitiveArray, RecordBatch, StringArray,
};
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Field};
use entromask_fault::Fault;

use crate::Ragged;

/// A column of scalars as an Arrow array and its field.
pub(crate) fn scalars<P: ArrowPrimitiveType>(name: &str, values: &[P::Native]) -> (Field, ArrayRef) {
    let array = PrimitiveArray::<P>::new(ScalarBuffer::from(values.to_vec()), None);
    (Field::new(name, P::DATA_TYPE, false), Arc::new(array))
}

/// A column of scalars that may be null.
pub(crate) fn nullable_scalars<P: ArrowPrimitiveType>(
    name: &str,
    values: &[Option<P::Native>],
) -> (Field, ArrayRef) {
    let array: PrimitiveArray<P> = values.iter().copied().collect();
    (Field::new(name, P::DATA_TYPE, true), Arc::new(array))
}

/// A column of strings.
pub(crate) fn strings(name: &str, values: &[String]) -> (Field, ArrayRef) {
    (Field::new(name, DataType::Utf8, false), Arc::new(StringArray::from_iter_values(values)))
}

/// A column of lists without nulls.
pub(crate) fn lists<P: ArrowPrimitiveType>(name: &str, rows: &Ragged<P::Native>) -> (Field, ArrayRef) {
    let items = PrimitiveArray::<P>::new(ScalarBuffer::from(rows.values.clone()), None);
    list_array(name, &rows.offsets, Arc::new(items), false)
}

/// A column of lists whose items may be null.
pub(crate) fn nullable_lists<P: ArrowPrimitiveType>(
    name: &str,
    rows: &Ragged<Option<P::Native>>,
) -> (Field, ArrayRef) {
    let items: PrimitiveArray<P> = rows.values.iter().copied().collect();
    list_array(name, &rows.offsets, Arc::new(items), true)
}

fn list_array(name: &str, offsets: &[u32], items: ArrayRef, nullable: bool) -> (Field, ArrayRef) {
    let offsets = offsets
        .iter()
        .map(|&offset| i32::try_from(offset).expect("a part holds fewer than 2^31 tokens"))
        .collect::<Vec<_>>();
    let item = Arc::new(Field::new_list_field(items.data_type().clone(), nullable));
    let array = ListArray::new(item, OffsetBuffer::new(offsets.into()), items, None);
    (Field::new(name, array.data_type().clone(), false), Arc::new(array))
}

/// One batch read from `path`, whose columns are taken by name.
pub(crate) struct Columns<'a> {
    pub(crate) batch: &'a RecordBatch,
    pub(crate) path: &'a Path,
}

impl Columns<'_> {
    /// Appends the scalars of column `name`.
    pub(crate) fn scalars<P: ArrowPrimitiveType>(
        &self,
        name: &str,
        into: &mut Vec<P::Native>,
    ) -> anyhow::Result<()> {
        let array = self.get(name)?.as_primitive_opt::<P>().ok_or_else(|| self.mistyped(name))?;
        self.refuse_nulls(name, array)?;
        into.extend_from_slice(array.values());
        Ok(())
    }

    /// Appends the strings of column `name`.
    pub(crate) fn strings(&self, name: &str, into: &mut Vec<String>) -> anyhow::Result<()> {
        let array = self.get(name)?.as_string_opt::<i32>().ok_or_else(|| self.mistyped(name))?;
        self.refuse_nulls(name, array)?;
        into.extend(array.iter().map(|text| text.unwrap_or_default().to_string()));
        Ok(())
    }

    /// Appends the lists of column `name`.
    pub(crate) fn lists<P: ArrowPrimitiveType>(
        &self,
        name: &str,
        into: &mut Ragged<P::Native>,
    ) -> anyhow::Result<()> {
        let (lists, items) = self.list_items::<P>(name)?;
        self.refuse_nulls(name, items)?;
        for pair in lists.value_offsets().windows(2) {
            into.push(items.values()[pair[0] as usize..pair[1] as usize].iter().copied());
        }
        Ok(())
    }

    /// Appends the lists of column `name`, whose items may be null.
    pub(crate) fn nullable_lists<P: ArrowPrimitiveType>(
        &self,
        name: &str,
        into: &mut Ragged<Option<P::Native>>,
    ) -> anyhow::Result<()> {
        let (lists, items) = self.list_items::<P>(name)?;
        for pair in lists.value_offsets().windows(2) {
            let range = pair[0] as usize..pair[1] as usize;
            into.push(range.map(|index| items.is_valid(index).then(|| items.value(index))));
        }
        Ok(())
    }

    fn list_items<P: ArrowPrimitiveType>(
        &self,
        name: &str,
    ) -> anyhow::Result<(&ListArray, &PrimitiveArray<P>)> {
        let lists = self.get(name)?.as_list_opt::<i32>().ok_or_else(|| self.mistyped(name))?;
        let items = lists.values().as_primitive_opt::<P>().ok_or_else(|| self.mistyped(name))?;
        self.refuse_nulls(name, lists)?;
        Ok((lists, items))
    }

    /// Where a stage writes none, zeros would be read in their place.
    fn refuse_nulls(&self, name: &str, array: &dyn Array) -> anyhow::Result<()> {
        if array.null_count() == 0 {
            return Ok(());
        }
        Err(Fault::input(format!("{}: column `{name}` has nulls", self.path.display()))
            .remedy("make the artifact again with this version of entromask")
            .into())
    }

    fn get(&self, name: &str) -> anyhow::Result<&ArrayRef> {
        Ok(self.batch.column_by_name(name).ok_or_else(|| {
            Fault::input(format!("{}: no column `{name}`", self.path.display()))
                .remedy("this is not the table that the stage needs: check the path")
        })?)
    }

    fn mistyped(&self, name: &str) -> Fault {
        let found = self.batch.column_by_name(name).map(|column| column.data_type().to_string());
        let found = found.unwrap_or_default();
        Fault::input(format!("{}: column `{name}` has the type {found}", self.path.display()))
            .remedy("make the artifact again with this version of entromask")
    }
}
