"""Names that users of DeepMind Lab share: the levels of DMLab-30, and discrete action sets.

An action is the engine's seven numbers: look left/right, look down/up (both in pixels per frame), strafe left/right,
move back/forward, fire, jump, crouch (docs/users/actions.md of github.com/google-deepmind/lab). Neither set has an
action that does nothing.
"""

Move = tuple[int, int, int, int, int, int, int]

IMPALA9: tuple[tuple[str, Move], ...] = (
    # Espeholt et al. 2018, arXiv 1802.01561; github.com/google-deepmind/scalable_agent, environments.py
    ("forward", (0, 0, 0, 1, 0, 0, 0)),
    ("backward", (0, 0, 0, -1, 0, 0, 0)),
    ("strafe_left", (0, 0, -1, 0, 0, 0, 0)),
    ("strafe_right", (0, 0, 1, 0, 0, 0, 0)),
    ("turn_left", (-20, 0, 0, 0, 0, 0, 0)),
    ("turn_right", (20, 0, 0, 0, 0, 0, 0)),
    ("forward+turn_left", (-20, 0, 0, 1, 0, 0, 0)),
    ("forward+turn_right", (20, 0, 0, 1, 0, 0, 0)),
    ("fire", (0, 0, 0, 0, 1, 0, 0)),
)

POPART15: tuple[tuple[str, Move], ...] = (
    # Hessel et al. 2018 (PopArt), arXiv 1809.04474; also R2D2's, and that of the RL Unplugged DMLab data
    ("forward", (0, 0, 0, 1, 0, 0, 0)),
    ("backward", (0, 0, 0, -1, 0, 0, 0)),
    ("strafe_left", (0, 0, -1, 0, 0, 0, 0)),
    ("strafe_right", (0, 0, 1, 0, 0, 0, 0)),
    ("turn_left", (-10, 0, 0, 0, 0, 0, 0)),
    ("turn_right", (10, 0, 0, 0, 0, 0, 0)),
    ("turn_left_fast", (-60, 0, 0, 0, 0, 0, 0)),
    ("turn_right_fast", (60, 0, 0, 0, 0, 0, 0)),
    ("look_down", (0, 10, 0, 0, 0, 0, 0)),
    ("look_up", (0, -10, 0, 0, 0, 0, 0)),
    ("forward+turn_left", (-10, 0, 0, 1, 0, 0, 0)),
    ("forward+turn_right", (10, 0, 0, 1, 0, 0, 0)),
    ("forward+turn_left_fast", (-60, 0, 0, 1, 0, 0, 0)),
    ("forward+turn_right_fast", (60, 0, 0, 1, 0, 0, 0)),
    ("fire", (0, 0, 0, 0, 1, 0, 0)),
)

ACTION_SETS = {"impala9": IMPALA9, "popart15": POPART15}

DMLAB30 = (  # game_scripts/levels/contributed/dmlab30; two of the thirty come as a pair, train and test
    "explore_goal_locations_large",
    "explore_goal_locations_small",
    "explore_object_locations_large",
    "explore_object_locations_small",
    "explore_object_rewards_few",
    "explore_object_rewards_many",
    "explore_obstructed_goals_large",
    "explore_obstructed_goals_small",
    "language_answer_quantitative_question",
    "language_execute_random_task",
    "language_select_described_object",
    "language_select_located_object",
    "lasertag_one_opponent_large",
    "lasertag_one_opponent_small",
    "lasertag_three_opponents_large",
    "lasertag_three_opponents_small",
    "natlab_fixed_large_map",
    "natlab_varying_map_randomized",
    "natlab_varying_map_regrowth",
    "psychlab_arbitrary_visuomotor_mapping",
    "psychlab_continuous_recognition",
    "psychlab_sequential_comparison",
    "psychlab_visual_search",
    "rooms_collect_good_objects_test",
    "rooms_collect_good_objects_train",
    "rooms_exploit_deferred_effects_test",
    "rooms_exploit_deferred_effects_train",
    "rooms_keys_doors_puzzle",
    "rooms_select_nonmatching_object",
    "rooms_watermaze",
    "skymaze_irreversible_path_hard",
    "skymaze_irreversible_path_varied",
)
