import numpy as np


def forest():
    from sklearn.datasets import load_iris
    from sklearn.ensemble import RandomForestClassifier

    data = load_iris()
    return (
        RandomForestClassifier(20, n_jobs=2, random_state=1)
        .fit(data.data, data.target)
        .score(data.data, data.target)
        > 0.9
    )


def cube(x):
    return x**3


def loky():
    from joblib import Parallel, delayed

    return Parallel(2)(delayed(cube)(i) for i in range(5))


def grid():
    from sklearn.datasets import load_iris
    from sklearn.model_selection import GridSearchCV
    from sklearn.svm import SVC

    data = load_iris()
    search = GridSearchCV(SVC(), {"C": [0.1, 1]}, n_jobs=2).fit(data.data, data.target)
    return search.best_score_ > 0.9


def edges():
    from skimage import data, filters

    return filters.sobel(data.camera()).shape


def threads():
    import psutil

    return psutil.Process().num_threads() > 0 and isinstance(psutil.Process().children(), list) and np.pi > 3
