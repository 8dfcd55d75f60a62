//! The call of the library, in order with burn's own kernels.

use burn_cubecl::cubecl;
use cubecl::server::{BufferBinding, ServerError};
use cubecl_environment::backtrace::BackTrace;
use cubecl_runtime::server::ServerStorage;
use cubecl_server::stream::{ExecuteScope, WriteScoped, failed_writing};
use cudarc::cublaslt::result::CublasError;
use cudarc::cublaslt::sys::cudaStream_t;

use super::Server;
use super::library::{Addresses, Key, Types, launch};
use crate::strided::Plan;

/// A product, and where its tensors are.
pub(super) struct Call {
    pub(super) plan: Plan,
    /// What the product is multiplied by.
    pub(super) scale: f32,
    pub(super) types: Types,
    pub(super) left: BufferBinding,
    pub(super) right: BufferBinding,
    /// Added to each row.
    pub(super) bias: Option<BufferBinding>,
    pub(super) output: BufferBinding,
    pub(super) workspace: BufferBinding,
}

impl Call {
    /// Asks the device for the product. A failure stays with what should have been written, and is found by who reads it.
    pub(super) fn run(&self, server: &mut Server) {
        let (stream, written) = (self.output.stream, vec![self.output.clone(), self.workspace.clone()]);
        // Before the scope, within which what is written counts as not written yet.
        let addresses = match self.addresses(server) {
            Ok(addresses) => addresses,
            Err(error) => return failed_writing(server, stream, written, error),
        };
        let _ = ExecuteScope::over(server, stream, written).execute(|server| {
            let factors = [&self.left, &self.right].into_iter().chain(&self.bias);
            let bindings = factors.chain([&self.output, &self.workspace]);
            // Kept until the products are in the queue: what it lets go of then may be given to others.
            let mut streams = server.write_streams().resolve(stream, bindings)?;
            let queue = streams.current().sys;
            let launched = self.launch_all(addresses, queue.cast());
            drop(streams);
            launched
        });
    }

    fn addresses(&self, server: &mut Server) -> Result<Addresses, ServerError> {
        let mut address = |binding: &BufferBinding| -> Result<u64, ServerError> {
            Ok(server.get_resource(binding.clone(), self.output.stream)?.resource().ptr)
        };
        Ok(Addresses {
            left: address(&self.left)?,
            right: address(&self.right)?,
            bias: self.bias.as_ref().map(&mut address).transpose()?,
            output: address(&self.output)?,
            workspace: address(&self.workspace)?,
        })
    }

    fn launch_all(&self, first: Addresses, queue: cudaStream_t) -> Result<(), ServerError> {
        for start in &self.plan.starts {
            let at = first.behind(*start, self.types);
            let key = Key::new(self.plan.geometry, self.types, at);
            launch(key, at, self.scale, queue).map_err(|error| failure(error, key))?;
        }
        Ok(())
    }
}

fn failure(error: CublasError, key: Key) -> ServerError {
    ServerError::Generic { reason: format!("cuBLASLt: {error} for {key:?}"), backtrace: BackTrace::capture() }
}
