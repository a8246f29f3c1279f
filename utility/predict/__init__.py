"""From trained networks to points: predictor.predict_split and predict_pictures."""
