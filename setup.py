"""Builds the operators of csrc/ on LibTorch's stable ABI; the only place that knows compilers.

Two shared libraries: glipkit/_C_cpu.abi3.so always, glipkit/_C_cuda.abi3.so when nvcc is there.
They hold no Python code (torch.ops.load_library opens them), so one build serves every Python from
3.10 and every torch from 2.10 on. Everything else about the package is in pyproject.toml.

Environment:
    GLIPKIT_CUDA=0         leave the CUDA operators out
    FORCE_CUDA=1           fail when the CUDA operators cannot be built, instead of leaving them out
    TORCH_CUDA_ARCH_LIST   GPUs to build for, such as "9.0" or "8.0;9.0+PTX"
    CXX, NVCC, CUDA_HOME   where the compilers are, when they are not c++ and nvcc on PATH
    MAX_JOBS               files compiled at once
"""

import fcntl
import importlib.util
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Command, Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent.resolve()
CSRC = ROOT / "csrc"
HEADERS = [*CSRC.glob("*.h"), *CSRC.glob("*/*.h")]

STABLE_ABI = [
    "-DTORCH_TARGET_VERSION=0x020a000000000000ULL",  # 2.10: nothing newer may be used
    "-DTORCH_STABLE_ONLY",
    "-DPy_LIMITED_API=0x030a0000",
]
CXX_FLAGS = ["-std=c++20", "-O3", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra", *STABLE_ABI]
NVCC_FLAGS = [
    *("-std=c++20", "-O3", "-Xcompiler=-fPIC,-fvisibility=hidden,-Wall", *STABLE_ABI),
    *("-DUSE_CUDA", "--expt-relaxed-constexpr", "--expt-extended-lambda"),
]
# An IoU decides at a threshold: a fused multiply-add would decide otherwise than plain float32.
EXTRA_FLAGS = {"csrc/cpu/nms.cpp": ["-ffp-contract=off"], "csrc/cuda/nms.cu": ["-fmad=false"]}
DEFAULT_ARCHITECTURES = "8.0;8.6;9.0+PTX"  # A100, RTX 30xx, H100, and what comes after


def torch_folder() -> Path | None:
    """Where torch is installed; not imported, which would take seconds."""
    spec = importlib.util.find_spec("torch")
    return Path(spec.origin).parent if spec and spec.origin else None


def torch_cuda() -> str | None:
    """The CUDA version torch was built with, such as "13.0"; None for a CPU build."""
    folder = torch_folder()
    return runpy.run_path(str(folder / "version.py"))["cuda"] if folder else None


def cxx() -> str | None:
    """The C++ compiler, if there is one."""
    return os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++")


def nvcc() -> str | None:
    """The CUDA compiler, if there is one."""
    home = os.environ.get("CUDA_HOME", "")
    return (
        os.environ.get("NVCC")
        or shutil.which("nvcc")
        or (shutil.which("nvcc", path=f"{home}/bin") if home else None)
    )


def want_cuda() -> bool:
    """Whether to build for CUDA: a question of compilers, never of a GPU being present."""
    if os.environ.get("GLIPKIT_CUDA") == "0" or not list(CSRC.glob("cuda/*.cu")):
        return False
    if os.environ.get("FORCE_CUDA") == "1":
        if not nvcc():
            raise SystemExit("FORCE_CUDA=1, but there is no nvcc on PATH (nor in $NVCC)")
        if not torch_cuda():
            raise SystemExit("FORCE_CUDA=1, but the torch installed here was built without CUDA")
    compiler = nvcc()
    return bool(compiler and torch_cuda() and same_cuda(compiler))


def same_cuda(compiler: str) -> bool:
    """Whether nvcc is of torch's CUDA major: two runtimes do not go together in a process."""
    told = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True)
    version = re.search(r"release (\d+)\.(\d+)", told.stdout)
    if not version or version[1] == torch_cuda().split(".")[0]:
        return True
    problem = (
        f"{compiler} is CUDA {version[1]}.{version[2]}, but torch was built with CUDA "
        f"{torch_cuda()}. Put a matching nvcc on PATH (or into $NVCC) for the CUDA operators. "
        "(pip builds against the newest torch unless --no-build-isolation is given.)"
    )
    if os.environ.get("FORCE_CUDA") == "1":
        raise SystemExit(problem)
    print(f"glipkit: building for the CPU only: {problem}", flush=True)
    return False


def architecture_flags(architectures: str) -> list[str]:
    """The flags nvcc takes for a list such as "8.0;9.0+PTX"."""
    flags = []
    for name in re.split(r"[;,\s]+", architectures.strip()):
        match = re.fullmatch(r"(\d+)\.(\d[af]?)(\+PTX)?", name)
        if not match:
            raise SystemExit(
                f"TORCH_CUDA_ARCH_LIST is {architectures!r}; expected numbers such as 8.0;9.0+PTX"
            )
        number = match[1] + match[2]
        flags.append(f"-gencode=arch=compute_{number},code=sm_{number}")
        if match[3]:
            flags.append(f"-gencode=arch=compute_{number},code=compute_{number}")
    return flags


def cuda_folder(compiler: str) -> Path:
    """The toolkit nvcc belongs to. nvcc on PATH may be a wrapper elsewhere, so nvcc is asked."""
    told = subprocess.run(
        [compiler, "--dryrun", "x.cu"], capture_output=True, text=True, check=True
    )
    top = re.search(r"^#\$ TOP=(.+)$", told.stderr, re.MULTILINE)
    if not top:
        raise SystemExit(f"{compiler} --dryrun does not tell where its toolkit is; set $NVCC")
    return Path(top[1].strip()).resolve()


def cpu_toolchain(torch: Path) -> dict[str, list[str]]:
    """The compiler, its flags and the libraries to link, for csrc/cpu."""
    return {
        "cxx": shlex.split(cxx()),  # it may be several words: "ccache g++"
        "cxx_flags": [*CXX_FLAGS, "-isystem", f"{torch / 'include'}", f"-I{CSRC}"],
        "cpu_libraries": [f"-L{torch / 'lib'}", "-Wl,--as-needed", "-ltorch_cpu", "-lc10"],
    }


def cuda_toolchain(torch: Path) -> dict[str, list[str]]:
    """The same for csrc/cuda."""
    compiler = nvcc()
    toolkit = cuda_folder(compiler)
    # Headers of cuBLAS and its kin, should the toolkit lack them, are in torch's own wheels.
    wheel = torch.parent / "nvidia" / f"cu{torch_cuda().split('.')[0]}"
    architectures = os.environ.get("TORCH_CUDA_ARCH_LIST") or DEFAULT_ARCHITECTURES
    print(f"glipkit: CUDA operators for {architectures} with {toolkit}", flush=True)
    flags = [*NVCC_FLAGS, *architecture_flags(architectures), f"-I{CSRC}"]
    for folder in (torch, toolkit, wheel):
        flags += ["-isystem", f"{folder / 'include'}"]
    libraries = [
        f"-L{folder}"
        for folder in (torch / "lib", toolkit / "lib64", toolkit / "lib", wheel / "lib")
    ]
    libraries += ["-Wl,--as-needed", "-ltorch_cpu", "-ltorch_cuda", "-lc10", "-lcudart"]
    return {"nvcc": [compiler], "nvcc_flags": flags, "cuda_libraries": libraries}


def in_ninja(path: Path) -> str:
    """A path as a ninja file spells it."""
    return re.sub(r"([$ :])", r"$\1", str(path))


RULES = """\
rule compile_cpu
  command = $cxx -MMD -MF $out.d $cxx_flags $extra -c $in -o $out
  depfile = $out.d
  deps = gcc
rule compile_cuda
  command = $nvcc -MMD -MF $out.d $nvcc_flags $extra -c $in -o $out
  depfile = $out.d
  deps = gcc
rule link_cpu
  command = $cxx -shared -o $out $in $cpu_libraries
rule link_cuda
  command = $cxx -shared -o $out $in $cuda_libraries
"""


class BuildOperators(build_ext):
    """Compiles with ninja: in parallel, and only what changed."""

    def build_extensions(self) -> None:
        """Build both libraries and put them where setuptools wants them."""
        folder = ROOT / "build" / "operators"  # pip's build_temp is new each time: nothing reused
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / "lock", "w") as lock:  # two builds of one checkout take turns
            fcntl.flock(lock, fcntl.LOCK_EX)
            (folder / "build.ninja").write_text(self._ninja_file())
            self._run_ninja(folder)
            for extension in self.extensions:
                target = Path(self.get_ext_fullpath(extension.name))
                target.parent.mkdir(parents=True, exist_ok=True)
                self.copy_file(str(folder / self._library(extension)), str(target))

    def _library(self, extension: Extension) -> str:
        return extension.name.rpartition(".")[2] + ".so"

    def _ninja_file(self) -> str:
        torch = torch_folder()
        if torch is None:
            raise SystemExit("building glipkit's operators needs torch >= 2.10: pip install torch")
        kinds = {e.name.rpartition("_")[2]: e for e in self.extensions}  # "cpu", "cuda"
        variables = cpu_toolchain(torch) | (cuda_toolchain(torch) if "cuda" in kinds else {})
        lines = [f"{k} = {shlex.join(v).replace('$', '$$')}" for k, v in variables.items()]
        lines.append(RULES)
        for kind, extension in kinds.items():
            objects = []
            for source in extension.sources:
                objects.append(str(Path(source).with_suffix(".o")))
                lines.append(f"build {objects[-1]}: compile_{kind} {in_ninja(ROOT / source)}")
                lines.append(f"  extra = {' '.join(EXTRA_FLAGS.get(source, []))}")
            lines.append(f"build {self._library(extension)}: link_{kind} {' '.join(objects)}")
        return "\n".join(lines) + "\n"

    def _run_ninja(self, folder: Path) -> None:
        path = shutil.which("ninja")
        if not path and not importlib.util.find_spec("ninja"):
            raise SystemExit("ninja builds glipkit's operators and is not here; pip install ninja")
        command = [path] if path else [sys.executable, "-m", "ninja"]
        jobs = ["-j", os.environ["MAX_JOBS"]] if os.environ.get("MAX_JOBS") else []
        if subprocess.run([*command, "-C", str(folder), *jobs]).returncode != 0:
            raise SystemExit("glipkit's operators did not compile; the compiler's words are above")


class Develop(Command):
    """`setup.py develop`: pip without isolation: isolated, it would not see the torch installed."""

    user_options = []  # noqa: RUF012 - distutils insists on a list

    def initialize_options(self) -> None:
        """Nothing to choose."""

    def finalize_options(self) -> None:
        """Nothing to choose."""

    def run(self) -> None:
        """Install this checkout so that edits take effect at once."""
        pip = [sys.executable, "-m", "pip", "install", "--no-build-isolation"]
        subprocess.run([*pip, "-e", str(ROOT)], check=True)


def extensions() -> list[Extension]:
    """What to build here: nothing without a C++ compiler, glipkit has plain PyTorch forms."""
    if not cxx():
        print("glipkit: no C++ compiler; installing without compiled operators", file=sys.stderr)
        return []
    patterns = {"cpu": ["csrc/*.cpp", "csrc/cpu/*.cpp"]}
    if want_cuda():
        patterns["cuda"] = ["csrc/cuda/*.cu"]
    return [
        Extension(
            f"glipkit._C_{kind}",
            sources=sorted(str(p.relative_to(ROOT)) for glob in globs for p in ROOT.glob(glob)),
            depends=[str(p.relative_to(ROOT)) for p in HEADERS],
            py_limited_api=True,
        )
        for kind, globs in patterns.items()
    ]


setup(
    license="Apache-2.0",
    ext_modules=extensions(),
    cmdclass={"build_ext": BuildOperators, "develop": Develop},
    options={"bdist_wheel": {"py_limited_api": "cp310"}},
)
