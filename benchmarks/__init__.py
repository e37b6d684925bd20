"""What nightmill costs, compared with a bare aiohttp loop, asyncio.gather and stock arq.

`make bench` (or `python -m benchmarks [--quick] [names...]`) runs every contender on the same
prompts against the same simulated endpoint, in turns. It prints one table for each scenario.
"""
