"""`dagfusion doctor`: facts about an environment, gathered in one place each, and pure checks of them."""
