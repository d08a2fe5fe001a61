"""LitServe, with a call for each request, or with up to as many requests in a batch as its second argument says."""

import os
import sys

import joblib
import litserve
import numpy as np


class Plain(litserve.LitAPI):
    """A call of the model for each request."""

    def setup(self, device):
        """Load the model."""
        self.model = joblib.load(os.environ["MODEL"])

    def decode_request(self, request):
        """The rows of a request."""
        return np.array(request["rows"])

    def predict(self, rows):
        """The probabilities of the classes."""
        return self.model.predict_proba(rows)

    def encode_response(self, probabilities):
        """The answer to a request."""
        return {"probabilities": probabilities.tolist()}


class Batching(Plain):
    """A call of the model for many requests, each of any number of rows."""

    def batch(self, inputs):
        """Keep the requests apart until they are answered together."""
        return inputs

    def predict(self, requests):
        """The probabilities of the classes, an array for each request."""
        ends = np.cumsum([len(rows) for rows in requests])[:-1]
        return np.split(self.model.predict_proba(np.concatenate(requests)), ends)

    def unbatch(self, output):
        """An answer for each request."""
        return output


if __name__ == "__main__":
    port, largest = int(sys.argv[1]), int(sys.argv[2])
    api = Batching(max_batch_size=largest, batch_timeout=0.005) if largest > 1 else Plain()
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1, timeout=60)
    server.run(host="127.0.0.1", port=port, num_api_servers=1, generate_client_file=False, log_level="error")
