"""The studio: a local web page to click objects, see them tracked, complete them, compare samples and export.

One process, one worker. A browser's session (:mod:`.sessions`) holds clips (:mod:`.clips`), whose long work waits in
one queue (:mod:`.jobs`) and is done in :mod:`.work`; :mod:`.app` is what the page talks to, :mod:`.guard` who may.
"""
