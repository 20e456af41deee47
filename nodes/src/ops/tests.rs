//! The operations on the processor against candle's own, and what they refuse.

use super::{
    Linear, LowRank, LowRankLayer, Quantized, RmsNorm, Rope, RopeLayout, RopeTable, Then,
    WeightType, add_low_rank, attention::packed_by_candle, attention_packed, gelu_mul, layer_norm,
    low_rank::by_candle, silu_mul, softmax, *,
};
use candle_core::{
    D, DType, Device, Result, Tensor,
    quantized::{GgmlDType, QTensor},
};

fn random(shape: &[usize]) -> Tensor {
    Tensor::randn(0f32, 1f32, shape, &Device::Cpu).unwrap()
}

fn assert_same(got: &Tensor, want: &Tensor, bound: f32) {
    assert_eq!(got.dims(), want.dims());
    if want.elem_count() == 0 {
        return;
    }
    let difference = (got - want).unwrap().abs().unwrap().flatten_all().unwrap();
    let largest = difference.max(0).unwrap().to_scalar::<f32>().unwrap();
    assert!(largest <= bound, "off by {largest}");
}

#[test]
fn linear_equals_candle() -> Result<()> {
    let (k, n) = (100, 70);
    let (w, bias) = ((random(&[n, k]) / 10.0)?, random(&[n]));
    let layer = Linear::new(&w, Some(&bias), WeightType::F32)?;
    assert_eq!((layer.in_features(), layer.out_features()), (k, n));
    for rows in [0, 1, 17] {
        let (x, residual) = (random(&[rows, k]), random(&[rows, n]));
        let y = x.matmul(&w.t()?)?.broadcast_add(&bias)?;
        assert_same(&layer.forward(&x, Then::Nothing)?, &y, 1e-4);
        assert_same(&layer.forward(&x, Then::Gelu)?, &y.gelu_erf()?, 1e-4);
        assert_same(&layer.forward(&x, Then::GeluTanh)?, &y.gelu()?, 1e-4);
        assert_same(&layer.forward(&x, Then::Relu)?, &y.relu()?, 1e-4);
        assert_same(
            &layer.forward(&x, Then::Add(&residual))?,
            &(y + &residual)?,
            1e-4,
        );
    }
    let x = random(&[2, 3, k]);
    let y = x.broadcast_matmul(&w.t()?)?.broadcast_add(&bias)?;
    assert_same(&layer.forward(&x, Then::Nothing)?, &y, 1e-4);
    // A view that begins inside of a tensor.
    let part = random(&[9, k]).narrow(0, 4, 3)?;
    let y = part.matmul(&w.t()?)?.broadcast_add(&bias)?;
    assert_same(&layer.forward(&part, Then::Nothing)?, &y, 1e-4);
    assert_same(
        &layer.rows(&[3, 69, 3])?,
        &w.index_select(&Tensor::new(&[3u32, 69, 3], &Device::Cpu)?, 0)?,
        0.0,
    );
    Ok(())
}

#[test]
fn stacks_are_their_parts_side_by_side() -> Result<()> {
    let (a, b) = ((random(&[40, 64]) / 8.0)?, (random(&[33, 64]) / 8.0)?);
    let bias = random(&[33]);
    let x = random(&[5, 64]);
    let ya = x.matmul(&a.t()?)?;
    let yb = x.matmul(&b.t()?)?.broadcast_add(&bias)?;
    let want = Tensor::cat(&[ya, yb], 1)?;
    let parts = [(&a, None), (&b.to_dtype(DType::F32)?, Some(&bias))];
    let plain = Linear::stacked(&parts, WeightType::F32)?;
    assert_same(&plain.forward(&x, Then::Nothing)?, &want, 1e-4);
    let int8 = Linear::stacked(&parts, WeightType::Int8)?;
    assert_same(&int8.forward(&x, Then::Nothing)?, &want, 0.1);
    assert!(int8.bytes() < plain.bytes() / 3);
    let rows = [0, 39, 40, 72];
    assert_same(&int8.rows(&rows)?, &plain.rows(&rows)?, 0.01);
    Ok(())
}

#[test]
fn quantised_layers_of_mixed_formats_are_near_their_floats() -> Result<()> {
    let (k, n) = (512, 48);
    let kinds = [
        GgmlDType::Q4_0,
        GgmlDType::Q4_1,
        GgmlDType::Q5_0,
        GgmlDType::Q5_1,
        GgmlDType::Q8_0,
        GgmlDType::Q2K,
        GgmlDType::Q3K,
        GgmlDType::Q4K,
        GgmlDType::Q5K,
        GgmlDType::Q6K,
        GgmlDType::F32,
        GgmlDType::F16,
        GgmlDType::BF16,
    ];
    let parts: Vec<QTensor> = kinds
        .iter()
        .map(|kind| QTensor::quantize(&(random(&[n, k]) / 20.0)?, *kind))
        .collect::<Result<_>>()?;
    let layer = Linear::from_qtensors(&parts.iter().collect::<Vec<_>>())?;
    assert_eq!(layer.out_features(), n * kinds.len());
    let x = random(&[9, k]);
    let bias = random(&[n * kinds.len()]);
    let floats: Vec<_> = parts
        .iter()
        .map(|part| part.dequantize(&Device::Cpu))
        .collect::<Result<_>>()?;
    let floats = Tensor::cat(&floats, 0)?;
    let want = x.matmul(&floats.t()?)?.broadcast_add(&bias)?;
    let layer = layer.with_bias(Some(&bias))?;
    // |y| is about 1; int8 activations cost 0.5 % of that, 5 standard deviations of it.
    assert_same(&layer.forward(&x, Then::Nothing)?, &want, 0.03);
    let ids: Vec<u32> = (0..n as u32 * kinds.len() as u32).step_by(7).collect();
    let rows = floats.index_select(&Tensor::new(&ids[..], &Device::Cpu)?, 0)?;
    assert_same(&layer.rows(&ids)?, &rows, 1e-6);
    Ok(())
}

#[test]
fn what_does_not_fit_is_an_error() -> Result<()> {
    let w = random(&[4, 32]);
    let layer = Linear::new(&w, None, WeightType::F32)?;
    assert!(layer.forward(&random(&[2, 31]), Then::Nothing).is_err());
    assert!(
        layer
            .forward(&random(&[2, 32]), Then::Add(&random(&[2, 5])))
            .is_err()
    );
    assert!(
        layer
            .forward(&random(&[32, 2]).t()?, Then::Nothing)
            .is_err()
    );
    assert!(
        layer
            .forward(&random(&[2, 32]).to_dtype(DType::F64)?, Then::Nothing)
            .is_err()
    );
    assert!(layer.rows(&[4]).is_err());
    assert!(layer.with_bias(Some(&random(&[5]))).is_err());
    assert!(Linear::new(&w, Some(&random(&[3])), WeightType::F32).is_err());
    assert!(Linear::stacked(&[], WeightType::F32).is_err());
    assert!(Linear::quantized(&[], &Device::Cpu).is_err());
    let part = |bytes, dtype| Quantized {
        bytes,
        dtype,
        rows: 2,
        columns: 32,
    };
    assert!(Linear::quantized(&[part(&[0; 67], GgmlDType::Q8_0)], &Device::Cpu).is_err());
    assert!(Linear::quantized(&[part(&[0; 255], GgmlDType::F32)], &Device::Cpu).is_err());
    assert!(Linear::quantized(&[part(&[0; 72], GgmlDType::Q8_1)], &Device::Cpu).is_err());
    assert!(gelu_mul(&random(&[2, 3])).is_err());
    let norm = RmsNorm {
        weight: random(&[2]),
        eps: 1e-6,
    };
    assert!(norm.forward(&random(&[2, 3])).is_err());
    assert!(norm.added_to(&random(&[2, 2]), &random(&[1, 4])).is_err());
    assert!(layer_norm(&random(&[2, 3]), &random(&[2]), &random(&[3]), 1e-6).is_err());
    assert!(attention_packed(&random(&[4, 12]), 2, &[0, 3]).is_err());
    assert!(attention_packed(&random(&[4, 12]), 2, &[0, 3, 2, 4]).is_err());
    Ok(())
}

#[test]
fn norms_gates_and_softmax_equal_candle() -> Result<()> {
    let (x, w, b) = (random(&[5, 48]), random(&[48]), random(&[48]));
    let want = candle_nn::ops::layer_norm(&x, &w, &b, 1e-6)?;
    assert_same(&layer_norm(&x, &w, &b, 1e-6)?, &want, 1e-5);
    let (weight, eps) = (random(&[16]), 1e-6);
    let want = candle_nn::ops::rms_norm(&x.reshape((15, 16))?, &weight, 1e-6)?.reshape((5, 48))?;
    let norm = RmsNorm { weight, eps };
    assert_same(&norm.forward(&x)?, &want, 1e-5);
    assert_same(&norm.added_to(&x, &x)?, &(&x + want)?, 1e-5);
    assert_same(&softmax(&x)?, &candle_nn::ops::softmax_last_dim(&x)?, 1e-6);
    let (gate, up) = (x.narrow(D::Minus1, 0, 24)?, x.narrow(D::Minus1, 24, 24)?);
    assert_same(&gelu_mul(&x)?, &(gate.gelu()? * &up)?, 1e-5);
    assert_same(&silu_mul(&x)?, &(gate.silu()? * &up)?, 1e-5);
    Ok(())
}

#[test]
fn rope_equals_candle_in_both_layouts() -> Result<()> {
    for layout in [RopeLayout::Halves, RopeLayout::Interleaved] {
        for (dim, head_dim) in [(16, 16), (8, 20)] {
            let mut rope = Rope::new(dim, 10_000.0, layout);
            rope.scale = 0.5;
            rope.factors = Some((0..dim / 2).map(|i| 1.0 + i as f32).collect());
            let table = RopeTable::new(&rope, &[0, 7, 3, 100_000], &Device::Cpu)?;
            let (x, all) = (random(&[4, 3 * head_dim]), 0..3 * head_dim);
            let got = table.apply(&x, all.clone(), head_dim, None)?;
            assert_same(&got, &table.apply_by_candle(&x, head_dim)?, 1e-6);
            // Position 0 turns nothing.
            assert_same(&got.narrow(0, 0, 1)?, &x.narrow(0, 0, 1)?, 0.0);
            let norm = RmsNorm {
                weight: random(&[head_dim]),
                eps: 1e-6,
            };
            let some = head_dim..3 * head_dim;
            let got = table.apply(&x, some.clone(), head_dim, Some(&norm))?;
            let want = x.narrow(1, head_dim, 2 * head_dim)?.contiguous()?;
            let want = table.apply_by_candle(&norm.forward(&want)?, head_dim)?;
            assert_same(&got, &want, 1e-5);
            assert!(table.apply(&x, 1..head_dim, head_dim, None).is_err());
            assert!(table.apply(&x, all, 2 * head_dim, Some(&norm)).is_err());
        }
    }
    Ok(())
}

#[test]
fn attention_equals_candle() -> Result<()> {
    let qkv = random(&[70, 3 * 96]);
    let offsets = [0, 5, 5, 50, 70];
    let want = packed_by_candle(&qkv, 3, &offsets)?;
    assert_same(&attention_packed(&qkv, 3, &offsets)?, &want, 1e-5);

    let attention = CausalAttention {
        heads: 6,
        kv_heads: 2,
        head_dim: 24,
        scale: 0.2,
        window: Some(30),
    };
    // One sequence of 50 positions, of which the last 20 are asked for, in one block.
    let (q, k, v) = (random(&[20, 144]), random(&[50, 48]), random(&[50, 48]));
    let lines = |x: &Tensor| -> Result<Vec<f32>> {
        let x = x.reshape((50, 2, 24))?.transpose(0, 1)?;
        x.contiguous()?.flatten_all()?.to_vec1()
    };
    let (keys, values) = (lines(&k)?, lines(&v)?);
    let cache = KvView {
        keys: KvElements::F32(&keys),
        values: KvElements::F32(&values),
        block_len: 50,
    };
    let rows: Vec<_> = (30..50)
        .map(|position| KvRow {
            blocks: &[0],
            position,
        })
        .collect();
    let want = attention_dense(&q, &k, &v, &attention)?;
    assert_same(
        &attention_causal(&q, &rows, cache, &attention)?,
        &want,
        1e-5,
    );
    let far = [KvRow {
        blocks: &[0],
        position: 50,
    }];
    assert!(attention_causal(&q.narrow(0, 0, 1)?, &far, cache, &attention).is_err());
    assert!(attention_causal(&q, &far, cache, &attention).is_err());
    Ok(())
}

/// Sequences of different lengths, some with one row and one with several, in blocks that lie anywhere.
#[test]
fn attention_over_a_slab_equals_the_kernels() -> Result<()> {
    const BLOCK: usize = 8;
    let (blocks, dim) = (12, 24);
    let (keys, values) = (random(&[blocks * BLOCK, 48]), random(&[blocks * BLOCK, 48]));
    let (before_k, before_v) = (keys.copy()?, values.copy()?);
    let lists: [&[u32]; 3] = [&[7, 2, 11, 0], &[5], &[9, 1, 3]];
    let ends = [(25, 1), (3, 1), (13, 6)];
    // The order of a step: a prompt that is being read may stand between texts that are being made.
    let rows: Vec<_> = [0, 2, 1]
        .into_iter()
        .flat_map(|s| (ends[s].0..ends[s].0 + ends[s].1).map(move |p| (lists[s], p)))
        .map(|(blocks, position)| KvRow { blocks, position })
        .collect();
    let (q, k, v) = (random(&[8, 144]), random(&[8, 48]), random(&[8, 48]));
    for window in [None, Some(9)] {
        let attention = CausalAttention {
            heads: 6,
            kv_heads: 2,
            head_dim: dim,
            scale: 0.2,
            window,
        };
        let plan = PagedPlan::new(&rows, BLOCK, window, 48, &Device::Cpu)?;
        plan.write(&keys, &k)?;
        plan.write(&values, &v)?;
        let got = plan.attend(&q, &keys, &values, &attention)?;
        // The kernels have the heads of a block one after the other.
        let lines = |slab: &Tensor| -> Result<Vec<f32>> {
            let slab = slab.reshape((blocks, BLOCK, 2, dim))?.transpose(1, 2)?;
            slab.contiguous()?.flatten_all()?.to_vec1()
        };
        let (keys, values) = (lines(&keys)?, lines(&values)?);
        let cache = KvView {
            keys: KvElements::F32(&keys),
            values: KvElements::F32(&values),
            block_len: BLOCK,
        };
        assert_same(&got, &attention_causal(&q, &rows, cache, &attention)?, 1e-5);
    }
    // Nothing but the rows' own places was written.
    let changed = |now: &Tensor, before: &Tensor| -> Result<usize> {
        let (now, before) = (now.to_vec2::<f32>()?, before.to_vec2::<f32>()?);
        Ok(now.iter().zip(&before).filter(|(a, b)| a != b).count())
    };
    assert_eq!(changed(&keys, &before_k)?, rows.len());
    assert_eq!(changed(&values, &before_v)?, rows.len());
    let far = [KvRow {
        blocks: &[0],
        position: BLOCK,
    }];
    assert!(PagedPlan::new(&far, BLOCK, None, 48, &Device::Cpu).is_err());
    Ok(())
}

#[test]
fn adapters_equal_candle() -> Result<()> {
    let (x, y) = (random(&[6, 20]), random(&[6, 30]));
    let one = LowRank::new(&random(&[4, 20]), &random(&[10, 4]), 2.0)?;
    let two = LowRank::new(&random(&[8, 20]), &random(&[13, 8]), 0.5)?;
    let rows = [Some(&one), Some(&one), None, Some(&two), None, Some(&one)];
    let at = |first, adapters: &[_]| LowRankLayer {
        first,
        adapters: adapters.to_vec(),
    };
    let stacks = [
        vec![at(15, &rows)],
        vec![at(0, &rows), at(3, &[None; 6]), at(17, &rows)],
    ];
    for layers in stacks {
        let want = by_candle(&y, &x, &layers)?;
        assert_same(&add_low_rank(&y, &x, &layers)?, &want, 1e-4);
    }
    assert!(add_low_rank(&y, &x, &[at(18, &rows)]).is_err());
    assert!(add_low_rank(&y, &x, &[at(0, &rows[1..])]).is_err());
    Ok(())
}
