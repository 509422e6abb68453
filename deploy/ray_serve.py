"""The gateway behind Ray Serve: the same application, with Ray's proxies, restarts and dashboard around it.

    pip install 'qumos-env[serve,rllib]' 'ray[serve]'
    QUMOS_BUNDLE=bundle QUMOS_PROVIDERS='aurora=http://10.0.0.1:9001 borealis=http://10.0.0.2:9001' serve run deploy.ray_serve:app

One replica, since quotas and versions are in one SQLite file; providers are processes of their own, as ever.
"""

from __future__ import annotations

import os
from pathlib import Path

from ray import serve

from qumos_env.deployment.serving.gateway import GatewaySettings
from qumos_env.deployment.serving.run import make_gateway


def build() -> object:
    """The application for the bundle and the providers that the environment names."""
    urls = dict(pair.split("=", 1) for pair in os.environ["QUMOS_PROVIDERS"].split())
    return make_gateway(Path(os.environ["QUMOS_BUNDLE"]), urls, GatewaySettings())


@serve.deployment(num_replicas=1, max_ongoing_requests=1000)
@serve.ingress(build)
class Gateway:
    """The application is all there is to it."""


app = Gateway.bind()
