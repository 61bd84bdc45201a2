"""World models from pixels: episodes become tokens, tokens become dreams.

Data flows one way: env → episodes → clips → tokens → prior → rollout → dream → agent.
"""

__version__ = "0.1.0"
