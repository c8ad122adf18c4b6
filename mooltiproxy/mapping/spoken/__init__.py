"""Tool calls and thoughts that a model writes as plain text, because its server takes and gives nothing else.

`syntax` says how models write calls, `calls` turns such a text into calls, `parser` finds calls and thoughts in a
stream of text, `harmony` does it for the messages of gpt-oss; `steps` is what both have in common.
"""

from mooltiproxy.mapping.spoken.parser import parser_for as parser_for
from mooltiproxy.mapping.spoken.steps import Steps as Steps
from mooltiproxy.mapping.spoken.syntax import Spoken as Spoken
from mooltiproxy.mapping.spoken.syntax import spoken_in as spoken_in
