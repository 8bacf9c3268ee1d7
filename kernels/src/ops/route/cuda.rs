//! The launch that chooses experts.

use crate::cuda::arguments::{Route, Variant};
use crate::cuda::driver::Address;
use crate::cuda::{Extent, Site, Wanted};
use crate::error::KernelError;
use graph::plan::{Operand, WeightId};
use graph::{DType, Routing, Score};

/// y = the gates of the experts held from `first` on.
pub(crate) fn route(
    site: &mut Site<'_>,
    [x, y]: [&Operand; 2],
    bias: Option<WeightId>,
    (choices, first): (u32, u32),
    routing: &Routing,
) -> Result<(), KernelError> {
    let (groups, size) = (routing.groups, x.width / routing.groups.max(1));
    let enough = |variant: &&Variant| {
        let [most_groups, most] = ["GROUPS", "SIZE"].map(|name| variant.constant(name));
        (most_groups > 1) == (groups > 1) && most_groups >= i64::from(groups) && most >= i64::from(size)
    };
    let wanted = Wanted { kernel: "route", typed: None, fixed: &[], numbers: &[] };
    let variants = wanted.variants().into_iter().filter(enough);
    let variant = variants.min_by_key(|variant| variant.constant("GROUPS") * variant.constant("SIZE"));
    let variant = variant.ok_or_else(|| site.missing(DType::F32.name()))?;
    let rows = site.counted(x);
    let arguments = Route {
        rows: rows.at,
        x: site.address(x),
        bias: bias.map_or(Address::NULL, |w| site.weight(w).address()),
        y: site.address(y),
        groups: groups as i32,
        size: size as i32,
        choices: choices as i32,
        groups_kept: routing.groups_kept as i32,
        group_best: routing.group_best as i32,
        begin: first as i32,
        held: y.width as i32,
        is_sigmoid: i32::from(routing.score == Score::Sigmoid),
        has_bias: i32::from(bias.is_some()),
        normalises: i32::from(routing.normalise),
        scale: routing.scale,
    };
    site.launches.push(variant, &arguments, rows.count, [Extent::ONE_EACH, Extent::Fixed(1), Extent::Fixed(1)])
}
