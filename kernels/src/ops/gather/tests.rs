use super::*;
use crate::isa::Isa;
use crate::ops::samples::{bits, team};
use crate::step::Span;
use crate::weights::samples::{TYPES, rounded, terms, weight};
use graph::WeightType;
use graph::plan::WeightUse;

#[test]
fn tables_and_panels_give_the_bits_of_the_rounded_weights() {
    let ids = [0, 3, 20, 4_000_000_000, 16, 36, 37, 19];
    for (n, k, first) in [(17, 5, 3), (34, 64, 3), (1, 1, 20), (40, 7, 0)] {
        for dtype in TYPES {
            let k = terms(dtype, k, 1);
            let wanted = reference::gather(&rounded(n, k, dtype), k, first, &ids);
            let tables = [WeightUse::Table, WeightUse::Panels].into_iter();
            for used in tables.filter(|used| *used == WeightUse::Panels || dtype.plain().is_some()) {
                let table = weight(n, k, dtype, used);
                let mut y = vec![9.0; ids.len() * k];
                let team = team(2);
                let workers = Workers { team: &team, isa: Isa::Portable };
                // SAFETY: y is this test's own.
                unsafe { run(workers, &table, first, &ids, Slab::new(&mut y)) };
                assert_eq!(bits(&y), bits(&wanted), "{n} x {k} {dtype} {used:?}");
            }
        }
    }
}

#[test]
fn positions_are_ids_that_every_row_knows() {
    let span = |first_row, rows, start| Span { first_row, rows, start, ..Span::default() };
    let step = Step { rows: 9, spans: vec![span(0, 1, 39), span(1, 5, 0), span(6, 3, 17)], ..Step::default() };
    let ids = [39, 0, 1, 2, 3, 4, 17, 18, 19];
    for dtype in [WeightType::F32, WeightType::Bf16] {
        let wanted = reference::gather(&rounded(40, 7, dtype), 7, 0, &ids);
        for threads in [1, 2] {
            let (table, team, mut y) = (weight(40, 7, dtype, WeightUse::Table), team(threads), vec![9.0; 63]);
            let workers = Workers { team: &team, isa: Isa::Portable };
            // SAFETY: y is this test's own.
            unsafe { positions(workers, &table, &step, Slab::new(&mut y)) };
            assert_eq!(bits(&y), bits(&wanted));
        }
    }
}
