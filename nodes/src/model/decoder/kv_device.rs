//! The keys and values of one layer on a device.

use candle_core::{DType, Device, Result, Tensor};

/// A slab `[places, kv_heads * head_dim]` each for keys and values, as halves. It grows by doubling,
/// because growing copies what is there.
#[derive(Debug)]
pub(super) struct DeviceLayer {
    device: Device,
    slabs: Option<[Tensor; 2]>,
}

impl DeviceLayer {
    pub(super) fn new(device: &Device) -> Self {
        Self {
            device: device.clone(),
            slabs: None,
        }
    }

    /// Makes room for so many places of `width` values.
    pub(super) fn grow(&mut self, places: usize, width: usize) -> Result<()> {
        let room = self.slabs.as_ref().map_or(Ok(0), |[keys, _]| keys.dim(0))?;
        if places <= room {
            return Ok(());
        }
        let larger = |old: Option<&Tensor>| -> Result<Tensor> {
            let shape = (places.max(2 * room), width);
            let slab = Tensor::zeros(shape, DType::F16, &self.device)?;
            if let Some(old) = old {
                slab.slice_set(old, 0, 0)?;
            }
            Ok(slab)
        };
        let slabs = match &self.slabs {
            Some([keys, values]) => [larger(Some(keys))?, larger(Some(values))?],
            None => [larger(None)?, larger(None)?],
        };
        self.slabs = Some(slabs);
        Ok(())
    }

    /// Keys and values; none before anything was to be kept.
    pub(super) fn slabs(&self) -> Option<&[Tensor; 2]> {
        self.slabs.as_ref()
    }
}
