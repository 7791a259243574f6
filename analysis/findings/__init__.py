"""What a study found: numbers selected from its statistics, and sentences made from them."""
