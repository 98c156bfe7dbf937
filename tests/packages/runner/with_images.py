import io
import tempfile
from pathlib import Path

import numpy as np


def pillow():
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(np.zeros((10, 20, 3), np.uint8)).resize((40, 20)).save(buffer, "PNG")
    return Image.open(buffer).size


def opencv():
    import cv2

    image = np.zeros((64, 64, 3), np.uint8)
    cv2.circle(image, (32, 32), 10, (255, 255, 255), -1)
    return int(cv2.connectedComponents(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY))[0])


def video():
    import av

    with tempfile.TemporaryDirectory() as folder:
        file = str(Path(folder, "v.mp4"))
        with av.open(file, "w") as out:
            stream = out.add_stream("mpeg4", rate=10)
            stream.width = stream.height = 64
            stream.pix_fmt = "yuv420p"
            for i in range(5):
                frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 40 * i, np.uint8), "rgb24")
                for packet in stream.encode(frame):
                    out.mux(packet)
            for packet in stream.encode():
                out.mux(packet)
        with av.open(file) as back:
            return sum(1 for _ in back.decode(video=0))


def gif():
    import imageio.v3 as iio

    frames = [np.full((16, 16), i, np.uint8) for i in range(3)]
    return iio.imread(iio.imwrite("<bytes>", frames, extension=".gif"), index=None).shape[0]


def figure():
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    buffer = io.BytesIO()
    pyplot.plot([1, 2, 3])
    pyplot.savefig(buffer)
    return buffer.getbuffer().nbytes > 1000


def jit():
    import numba

    @numba.njit(parallel=True)
    def total(x):
        found = 0.0
        for i in numba.prange(x.size):
            found += x[i]
        return found

    return total(np.ones(1000))


def jit_kept():
    """With a cache below the temporary folder."""
    import numba

    return numba.njit(lambda x: x + 1)(1)
