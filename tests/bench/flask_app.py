# SPDX-License-Identifier: Apache-2.0
"""The baseline: what most people run. gunicorn starts one copy of this per core."""
import os

import flask
import torch

torch.set_num_threads(1)
model = torch.jit.load(os.environ["BENCH_MODEL"]).eval()
app = flask.Flask(__name__)


@app.post("/v2/models/digits/infer")
def infer():
    request = flask.request.get_json(force=True)
    tensor = request["inputs"][0]
    with torch.inference_mode():
        image = torch.tensor(tensor["data"], dtype=torch.float32).reshape(tensor["shape"])
        scores = model(image)
    return {"model_name": "digits", "model_version": "1", "outputs": [{
        "name": "scores", "datatype": "FP32", "shape": list(scores.shape),
        "data": scores.flatten().tolist()}]}
