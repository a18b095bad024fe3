"""Times pydicom + numpy and nibabel on the scans that BenchmarkScan makes.

    export CTCLASS_BENCH_DIR=/tmp/ctclass-bench   # kept between the two
    go test ./internal/data/scan -run '^$' -bench Scan -benchtime 10x
    python3 -m venv venv && venv/bin/pip install numpy pydicom nibabel
    venv/bin/python bench/scan_peers.py "$CTCLASS_BENCH_DIR"

Folders dicom-NAME beside the others, such as the same series compressed in several ways
(gdcmconv --jpegls, --j2k, -J), are timed too, by gdcm where it is installed (pip install python-gdcm).

It prints, as the benchmark does, one line a task with the time of one load: the median of ten after one to
warm up the file cache. Every volume ends as one float32 array in HU.
"""

import pathlib
import statistics
import sys
import time

import nibabel
import numpy
import pydicom

try:
    import gdcm
except ImportError:
    gdcm = None


def load_dicom(folder):
    slices = [pydicom.dcmread(f) for f in folder.iterdir()]
    normal = numpy.cross(slices[0].ImageOrientationPatient[:3], slices[0].ImageOrientationPatient[3:])
    slices.sort(key=lambda s: float(numpy.dot(s.ImagePositionPatient, normal)))
    volume = numpy.empty((len(slices), slices[0].Rows, slices[0].Columns), numpy.float32)
    for i, s in enumerate(slices):
        volume[i] = s.pixel_array * numpy.float32(s.RescaleSlope) + numpy.float32(s.RescaleIntercept)
    return volume


def load_gdcm(folder):
    planes = []
    for f in folder.iterdir():
        reader = gdcm.ImageReader()
        reader.SetFileName(str(f))
        if not reader.Read():
            raise RuntimeError(f"gdcm cannot read {f}")
        image = reader.GetImage()
        kind = numpy.int16 if image.GetPixelFormat().GetPixelRepresentation() else numpy.uint16
        raw = image.GetBuffer().encode("utf-8", errors="surrogateescape")
        pixels = numpy.frombuffer(raw, kind).reshape(image.GetDimension(1), image.GetDimension(0))
        planes.append((image.GetOrigin()[2], pixels, image.GetSlope(), image.GetIntercept()))
    planes.sort(key=lambda p: p[0])
    volume = numpy.empty((len(planes), *planes[0][1].shape), numpy.float32)
    for i, (_, pixels, slope, intercept) in enumerate(planes):
        volume[i] = pixels * numpy.float32(slope) + numpy.float32(intercept)
    return volume


def load_nifti(path):
    return nibabel.load(path).get_fdata(dtype=numpy.float32, caching="unchanged")


def timed(name, task, repeat=10):
    task()
    times = []
    for _ in range(repeat):
        begin = time.perf_counter()
        task()
        times.append(time.perf_counter() - begin)
    print(f"{name:<20} {1000 * statistics.median(times):10.1f} ms")


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    root = pathlib.Path(sys.argv[1])
    niftis = sorted((root / "nifti").glob("*.nii.gz"))
    if not niftis or not (root / "dicom").is_dir():
        sys.exit(f"{root} holds no scans: run BenchmarkScan first")
    print(f"pydicom {pydicom.__version__}, nibabel {nibabel.__version__}, numpy {numpy.__version__}")
    timed("dicom", lambda: load_dicom(root / "dicom"))
    for folder in sorted(root.glob("dicom-*")) if gdcm else []:
        timed(f"{folder.name} (gdcm)", lambda: load_gdcm(folder), repeat=5)
    timed("nifti.gz/one", lambda: load_nifti(niftis[0]))
    timed("nifti.gz/folder", lambda: [load_nifti(f) for f in niftis])


if __name__ == "__main__":
    main()
