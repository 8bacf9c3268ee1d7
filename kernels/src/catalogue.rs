//! What there is a kernel for: op × element type × kind of device. Asking for what is missing is an error of the plan.

use crate::error::KernelError;
use graph::WeightType;
use graph::plan::Call;

/// The kind of device that this crate computes on.
const DEVICE: &str = "cpu";

/// Whether a CPU computes this call on this element type: that of its weight (gather, contract, bias, norms), of its cache (attend), or
/// of its activations.
///
/// # Errors
/// [`KernelError::Missing`] where it does not.
pub fn supports(call: &Call, dtype: WeightType) -> Result<(), KernelError> {
    let there = match call {
        Call::Gather { .. }
        | Call::Positions { .. }
        | Call::Contract { .. }
        | Call::Attend { .. }
        | Call::Experts { .. }
        | Call::ContractEach { .. }
        | Call::Combine { .. } => true,
        // Vectors and activations are f32.
        Call::Bias { .. }
        | Call::Norm { .. }
        | Call::AddNorm { .. }
        | Call::Rope { .. }
        | Call::ShortConv { .. }
        | Call::Scan { .. }
        | Call::Route { .. }
        | Call::Concat { .. }
        | Call::Weigh { .. }
        | Call::ExpertBias { .. }
        | Call::Gated { .. }
        | Call::Unary { .. }
        | Call::Binary { .. }
        | Call::Slice { .. }
        | Call::SampledRows { .. } => dtype == WeightType::F32,
    };
    if there { Ok(()) } else { Err(KernelError::Missing { op: call.name(), dtype: dtype.name(), device: DEVICE }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use graph::Unary;
    use graph::plan::{Operand, Place, RowSet, WeightId};

    #[test]
    fn what_is_missing_is_a_typed_error() {
        let x = Operand { place: Place::Scratch(0), width: 8, rows: RowSet::All };
        let gather = Call::Gather { table: WeightId(0), first: 0, ids: x, y: x };
        for dtype in [WeightType::F32, WeightType::Bf16, WeightType::F16, WeightType::Q8_0] {
            assert_eq!(supports(&gather, dtype), Ok(()));
        }
        let relu = Call::Unary { x, f: Unary::Relu, y: x };
        assert_eq!(supports(&relu, WeightType::F32), Ok(()));
        let message = |call, dtype| supports(call, dtype).expect_err("missing").to_string();
        assert_eq!(message(&relu, WeightType::Bf16), "unary: no kernel for bf16 on cpu");
    }
}
