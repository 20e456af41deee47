//! Real servers of the Open Inference Protocol on two models, which are written here: `double` gives
//! twice its numbers, `shout` its texts in capitals. Both refuse what their own code refuses: a
//! number of -1, the text "bad".

use crate::servers::{Server, free_port, python_with};
use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    path::Path,
    process::Command,
};

/// A server; it is killed when this is dropped.
pub struct Inference {
    /// Its address over REST.
    pub rest: String,
    /// Its address over gRPC.
    pub grpc: String,
    server: Server,
    _folder: tempfile::TempDir,
}

/// NVIDIA's Triton without a GPU, as the package of its Python interface brings it.
const TRITON: &str = "nvidia-pytriton==0.7.0";
const MLSERVER: &str = "mlserver==1.7.1";

const TRITON_MODEL: &str = r#"
import numpy as np
import triton_python_backend_utils as pb

class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        x = pb.get_input_tensor_by_name(request, "X").as_numpy()
        if x.dtype == np.object_:
            y = np.array([text.decode().upper().encode() for text in x.ravel()], dtype=object).reshape(x.shape)
            wrong = b"bad" in x.ravel()
        else:
            y, wrong = x * 2, bool((x == -1).any())
        if wrong:
            error = pb.TritonError("the model refuses it", pb.TritonError.INVALID_ARG)
            return pb.InferenceResponse(error=error)
        return pb.InferenceResponse([pb.Tensor("Y", y)])
"#;

const MLSERVER_MODEL: &str = r#"
import numpy as np
from mlserver import MLModel
from mlserver.codecs import NumpyCodec, StringCodec
from mlserver.errors import InferenceError
from mlserver.types import InferenceResponse

class Model(MLModel):
    async def predict(self, payload):
        given = payload.inputs[0]
        if given.datatype == "BYTES":
            texts = StringCodec.decode_input(given)
            if "bad" in texts:
                raise InferenceError("the model refuses it")
            output = StringCodec.encode_output("Y", [text.upper() for text in texts])
        else:
            numbers = NumpyCodec.decode_input(given)
            if (numbers == -1).any():
                raise InferenceError("the model refuses it")
            output = NumpyCodec.encode_output("Y", numbers * 2)
        return InferenceResponse(model_name=self.name, outputs=[output])
"#;

impl Inference {
    /// Starts Triton, which has binary tensors, with `double`, `half` (the same in FP16) and `shout`.
    pub fn triton() -> Self {
        let python = python_with(&[TRITON]);
        let environment = python.ancestors().nth(2).expect("it lies in bin/");
        let packages = Command::new(&python)
            .args([
                "-c",
                "import sysconfig; print(sysconfig.get_paths()['purelib'])",
            ])
            .output();
        let packages = packages.expect("Python can be run").stdout;
        let packages = String::from_utf8(packages).expect("a path is text");
        let packages = Path::new(packages.trim());
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let models = folder.path().join("models");
        for (name, datatype) in [("double", "FP32"), ("half", "FP16"), ("shout", "STRING")] {
            let size = if name == "shout" { 1 } else { 3 };
            let tensor = |name: &str| {
                format!("[{{ name: \"{name}\" data_type: TYPE_{datatype} dims: [{size}] }}]")
            };
            let config = format!(
                "name: \"{name}\"\nbackend: \"python\"\nmax_batch_size: 8\ninput {}\noutput {}\ninstance_group [{{ kind: KIND_CPU }}]\n",
                tensor("X"),
                tensor("Y"),
            );
            write(&models.join(name).join("config.pbtxt"), &config);
            write(&models.join(name).join("1/model.py"), TRITON_MODEL);
        }
        // The backend and the part of it for this Python lie apart in the package.
        let triton = packages.join("pytriton/tritonserver");
        let backend = folder.path().join("backends/python");
        fs::create_dir_all(&backend).expect("a folder can be made");
        let version = packages.parent().and_then(Path::file_name);
        let version = version.and_then(|name| name.to_str()).unwrap_or_default();
        let stub = triton
            .join("python_backend_stubs")
            .join(version.trim_start_matches("python"))
            .join("triton_python_backend_stub");
        let own = triton.join("backends/python");
        for from in [
            own.join("libtriton_python.so"),
            own.join("triton_python_backend_utils.py"),
            stub,
        ] {
            let to = backend.join(from.file_name().expect("a file has a name"));
            fs::copy(&from, to).expect("the package has the file");
        }
        let (rest, grpc) = (free_port(), free_port());
        let mut command = Command::new(triton.join("bin/tritonserver"));
        command
            .arg(format!("--model-repository={}", models.display()))
            .arg(format!(
                "--backend-directory={}",
                folder.path().join("backends").display()
            ))
            .args(["--http-address=127.0.0.1", "--grpc-address=127.0.0.1"])
            .arg(format!("--http-port={rest}"))
            .arg(format!("--grpc-port={grpc}"))
            .arg("--allow-metrics=false")
            .env("LD_LIBRARY_PATH", packages.join("nvidia_pytriton.libs"))
            .env("PATH", path_with(&environment.join("bin")));
        Self::start(command, folder, rest, grpc)
    }

    /// Starts MLServer, which has no binary tensors, with `double` and `shout`.
    pub fn mlserver() -> Self {
        let python = python_with(&[MLSERVER]);
        let bin = python.parent().expect("it lies in bin/");
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        for (name, datatype, size) in [("double", "FP32", 3), ("shout", "BYTES", 1)] {
            let tensor = |name: &str| {
                format!(
                    r#"[{{"name": "{name}", "datatype": "{datatype}", "shape": [-1, {size}]}}]"#
                )
            };
            let settings = format!(
                r#"{{"name": "{name}", "implementation": "runtime.Model", "platform": "tests", "inputs": {}, "outputs": {}}}"#,
                tensor("X"),
                tensor("Y"),
            );
            let own = folder.path().join(name);
            write(&own.join("model-settings.json"), &settings);
            write(&own.join("runtime.py"), MLSERVER_MODEL);
        }
        let (rest, grpc) = (free_port(), free_port());
        let settings = format!(
            r#"{{"host": "127.0.0.1", "http_port": {rest}, "grpc_port": {grpc}, "metrics_port": {}, "parallel_workers": 0, "debug": false}}"#,
            free_port()
        );
        write(&folder.path().join("settings.json"), &settings);
        let mut command = Command::new(bin.join("mlserver"));
        command
            .arg("start")
            .arg(folder.path())
            .env("PATH", path_with(bin));
        Self::start(command, folder, rest, grpc)
    }

    fn start(mut command: Command, folder: tempfile::TempDir, rest: u16, grpc: u16) -> Self {
        let log = folder.path().join("log");
        let mut server = Server::start(&mut command, &log);
        server.wait_until(&log, || {
            is_ready(rest) && TcpStream::connect(("127.0.0.1", grpc)).is_ok()
        });
        Self {
            rest: format!("http://127.0.0.1:{rest}"),
            grpc: format!("grpc://127.0.0.1:{grpc}"),
            server,
            _folder: folder,
        }
    }
}

impl Drop for Inference {
    fn drop(&mut self) {
        // Triton has shared memory with the process of its models.
        self.server.end();
    }
}

/// Whether the server says that its models are loaded.
fn is_ready(port: u16) -> bool {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.write_all(
            b"GET /v2/health/ready HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n",
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    ask().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
}

fn write(path: &Path, text: &str) {
    let folder = path.parent().expect("a file lies in a folder");
    fs::create_dir_all(folder).expect("a folder can be made");
    fs::write(path, text).expect("a file can be written there");
}

fn path_with(folder: &Path) -> std::ffi::OsString {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(folder.to_owned()).chain(std::env::split_paths(&path));
    std::env::join_paths(folders).expect("folders make a path")
}
