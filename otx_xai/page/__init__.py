"""The page of an audit: a folder that opens in any browser by double click, without a network."""
